package meshproxy.loadtest;

import io.kroxylicious.kafka.transform.RecordStream;
import io.kroxylicious.proxy.filter.FilterContext;
import io.kroxylicious.proxy.filter.FilterFactory;
import io.kroxylicious.proxy.filter.FilterFactoryContext;
import io.kroxylicious.proxy.filter.ProduceRequestFilter;
import io.kroxylicious.proxy.filter.RequestFilterResult;
import io.kroxylicious.proxy.plugin.Plugin;
import java.util.concurrent.CompletionStage;
import org.apache.kafka.common.message.ProduceRequestData;
import org.apache.kafka.common.message.RequestHeaderData;
import org.apache.kafka.common.record.MemoryRecords;

/** Gives every record of a produce request a traceparent, as meshproxy does, and makes no span. */
@Plugin(configType = Void.class)
public final class TraceHeaders implements FilterFactory<Void, Void> {

    @Override
    public Void initialize(FilterFactoryContext context, Void config) {
        return null;
    }

    @Override
    public ProduceRequestFilter createFilter(FilterFactoryContext context, Void nothing) {
        return new OnProduce();
    }

    private static final class OnProduce implements ProduceRequestFilter {

        private final TraceHeader transform = new TraceHeader();

        @Override
        public CompletionStage<RequestFilterResult> onProduceRequest(
                short version,
                RequestHeaderData header,
                ProduceRequestData request,
                FilterContext context) {
            for (var topic : request.topicData()) {
                for (var partition : topic.partitionData()) {
                    if (partition.records() instanceof MemoryRecords records) {
                        partition.setRecords(traced(records, context));
                    }
                }
            }
            return context.forwardRequest(header, request);
        }

        private MemoryRecords traced(MemoryRecords records, FilterContext context) {
            // Twice as large, because it would grow by tenths, with a copy each time.
            var buffer = context.createByteBufferOutputStream(2 * records.sizeInBytes());
            return RecordStream.ofRecords(records).toMemoryRecords(buffer, transform);
        }
    }
}
