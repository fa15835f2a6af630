import java.util.Arrays;
import java.util.HashMap;

/** A map of COUNT arrays of 1000 bytes, each checked at random. */
public class Big {
    public static void main(String[] arguments) {
        int count = Integer.parseInt(arguments[0]);
        HashMap<Integer, byte[]> map = new HashMap<>();
        for (int i = 0; i < count; i++) {
            byte[] bytes = new byte[1000];
            Arrays.fill(bytes, (byte) (i * 31));
            bytes[0] = (byte) i;
            map.put(i, bytes);
        }
        long sum = 0;
        for (int i = 0; i < count; i += 7) {
            byte[] bytes = map.get(i);
            if (bytes[0] != (byte) i || bytes[999] != (byte) (i * 31))
                throw new IllegalStateException("entry " + i);
            sum = sum * 31 + bytes[0] + bytes[999];
        }
        System.out.println(count + " entries, sum " + sum + ", size " + map.size());
    }
}
