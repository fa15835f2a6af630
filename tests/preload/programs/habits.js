// What node makes SIGSEGV of: WebAssembly's bounds, and large buffers of C++'s.
const bytes = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 6, 1, 96, 1, 127, 1, 127, 3, 2, 1, 0, 5, 3, 1, 0, 1,
    7, 5, 1, 1, 102, 0, 0, 10, 9, 1, 7, 0, 32, 0, 40, 2, 0, 11]); // (memory 1) f(i) = i32.load i
const {f} = new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports;
let traps = 0;
for (let i = 0; i < 2000; i++) {
    try {
        f(i % 2 ? 0x7fffff00 : 16);
    } catch (error) {
        traps += error instanceof WebAssembly.RuntimeError ? 1 : 0;
    }
}
console.log('traps', traps);
const crypto = require('crypto');
const large = Buffer.alloc(96 << 20);
for (let i = 0; i < large.length; i += 4096) large.writeUInt32LE((i * 31) >>> 0, i);
let wrong = 0;
for (let i = 0; i < large.length; i += 4096) wrong += large.readUInt32LE(i) !== ((i * 31) >>> 0) ? 1 : 0;
console.log('wrong', wrong, crypto.createHash('sha256').update(large).digest('hex'));
function deep(n) { return deep(n + 1) + 1; }
try { deep(0); } catch (error) { console.log(error instanceof RangeError); }
const {execSync} = require('child_process');
console.log(execSync('echo from a child').toString().trim());
