// Kafka's verdict on each batch of forms.py: whether its validator could read exactly the declared records.
//
// Usage: java -cp 'kafka/*' Verdicts.java <forms >verdicts
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.util.HexFormat;
import org.apache.kafka.common.record.internal.DefaultRecordBatch;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.Record;
import org.apache.kafka.common.utils.BufferSupplier;
import org.apache.kafka.common.utils.CloseableIterator;

public class Verdicts {
    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = in.readLine()) != null; ) {
            String[] parts = line.split("\t");
            String verdict;
            try {
                MemoryRecords records = MemoryRecords.readableRecords(ByteBuffer.wrap(HexFormat.of().parseHex(parts[1])));
                DefaultRecordBatch batch = (DefaultRecordBatch) records.batches().iterator().next();
                batch.ensureValid();
                int count = 0;
                // The iterator of LogValidator.
                try (CloseableIterator<Record> iterator = batch.skipKeyValueIterator(BufferSupplier.NO_CACHING)) {
                    while (iterator.hasNext()) {
                        iterator.next().ensureValid();
                        count++;
                    }
                }
                verdict = count == batch.countOrNull() ? "read" : "refused\t" + count + " records";
            } catch (Throwable error) {
                verdict = "refused\t" + error;
            }
            System.out.println(parts[0] + "\t" + verdict);
        }
    }
}
