/* What a Java machine makes SIGSEGV of: null checks without code, the end of a stack, safepoints; and large native memory. */
import java.nio.ByteBuffer;
import java.util.Random;

public class Habits {
    int[] field;

    static int depth;

    static void recurse() {
        depth++;
        recurse();
    }

    static int nulls(Habits[] some) {
        int caught = 0;
        for (int i = 0; i < 20000; i++) {
            try {
                caught += some[i % some.length].field.length == -1 ? 1 : 0;
            } catch (NullPointerException e) {
                caught++;
            }
        }
        return caught;
    }

    public static void main(String[] arguments) throws Exception {
        Habits[] some = new Habits[7];
        some[3] = new Habits();
        some[5] = new Habits();
        some[5].field = new int[3];
        System.out.println("null checks: " + nulls(some));
        for (int i = 0; i < 3; i++) {
            try {
                depth = 0;
                recurse();
            } catch (StackOverflowError e) {
                System.out.println("stack overflow: " + (depth > 500));
            }
        }
        ByteBuffer large = ByteBuffer.allocateDirect(96 << 20);
        Thread[] threads = new Thread[4];
        for (int t = 0; t < threads.length; t++) {
            final int own = t;
            threads[t] = new Thread(() -> {
                Random random = new Random(own);
                for (int i = own * 8; i < large.capacity(); i += 4096)
                    large.putLong(i, i * 31L + own);
                for (int i = 0; i < 20000; i++) {
                    int at = random.nextInt(large.capacity() / 4096) * 4096 + own * 8;
                    if (large.getLong(at) != at * 31L + own)
                        System.out.println("WRONG at " + at);
                }
            });
            threads[t].start();
        }
        for (Thread thread : threads)
            thread.join();
        System.gc();
        StringBuilder garbage = new StringBuilder();
        for (int i = 0; i < 200000; i++)
            garbage.append(i);
        System.out.println("done " + garbage.length());
    }
}
