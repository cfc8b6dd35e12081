package meshproxy.loadtest;

import io.kroxylicious.kafka.transform.RecordTransform;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.concurrent.ThreadLocalRandom;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.Record;
import org.apache.kafka.common.record.RecordBatch;

/** The same new traceparent for all records of a batch; a record that has one keeps it. */
final class TraceHeader implements RecordTransform<Void> {

    private static final String NAME = "traceparent";

    private Header header;

    @Override
    public void initBatch(RecordBatch batch) {
        var random = ThreadLocalRandom.current();
        var value =
                String.format(
                        "00-%016x%016x-%016x-01",
                        random.nextLong(), random.nextLong(), random.nextLong());
        header = new RecordHeader(NAME, value.getBytes(StandardCharsets.US_ASCII));
    }

    @Override
    public void init(Void state, Record record) {}

    @Override
    public void resetAfterTransform(Void state, Record record) {}

    @Override
    public long transformOffset(Record record) {
        return record.offset();
    }

    @Override
    public long transformTimestamp(Record record) {
        return record.timestamp();
    }

    @Override
    public ByteBuffer transformKey(Record record) {
        return record.key();
    }

    @Override
    public ByteBuffer transformValue(Record record) {
        return record.value();
    }

    @Override
    public Header[] transformHeaders(Record record) {
        var before = record.headers();
        for (var each : before) {
            if (each.key().equals(NAME)) {
                return before;
            }
        }
        var after = Arrays.copyOf(before, before.length + 1);
        after[before.length] = header;
        return after;
    }
}
