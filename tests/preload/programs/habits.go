// What a Go program with C in it does: its own stacks, signals and threads, memory of C's, programs that it starts.
package main

/*
#include <stdlib.h>
#include <string.h>
*/
import "C"

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"unsafe"
)

const size = 96 << 20

func nilStore() (caught string) {
	defer func() { caught = fmt.Sprint(recover()) }()
	var nowhere *int
	*nowhere = 1
	return
}

func main() {
	memory := C.malloc(size)
	bytes := unsafe.Slice((*byte)(memory), size)
	var all sync.WaitGroup
	for g := 0; g < 8; g++ {
		all.Add(1)
		go func(own int) {
			defer all.Done()
			for i := own; i < size; i += 4096 {
				bytes[i] = byte(i>>12) + byte(own)
			}
			for i := own; i < size; i += 4096 {
				if bytes[i] != byte(i>>12)+byte(own) {
					fmt.Println("WRONG at", i)
				}
			}
		}(g)
	}
	all.Wait()
	fmt.Println(nilStore())

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	syscall.Kill(os.Getpid(), syscall.SIGUSR1)
	fmt.Println(<-signals)

	out, err := exec.Command("/bin/echo", "from a child").CombinedOutput()
	fmt.Print(string(out), err, "\n")

	read, write, _ := os.Pipe()
	go func() { write.Write(bytes[:1<<20]); write.Close() }()
	back := make([]byte, 1<<20)
	for n := 0; n < len(back); {
		m, _ := read.Read(back[n:])
		n += m
	}
	fmt.Println("same", string(back) == string(bytes[:1<<20]))
	C.memset(memory, 7, size)
	fmt.Println(bytes[size-1])
	C.free(memory)
	C.exit(0) // Go itself leaves without libc, and so without statistics
}
