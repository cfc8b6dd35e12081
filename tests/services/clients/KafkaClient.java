import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.UnsupportedVersionException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Kafka's own client. Prints a line of name and value for each thing that a test wants to know. */
public class KafkaClient {
    static final Duration PATIENCE = Duration.ofSeconds(30);
    static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");
    static final int COUNT = 200;

    static String bootstrap;

    public static void main(String[] arguments) throws Exception {
        bootstrap = arguments[1];
        String topic = arguments[2];
        switch (arguments[0]) {
            case "codecs" -> codecs(topic);
            case "transactions" -> transactions(topic);
            case "share" -> share(topic);
            default -> throw new IllegalArgumentException(arguments[0]);
        }
    }

    static KafkaProducer<byte[], byte[]> producer(Map<String, Object> more) {
        Map<String, Object> config = new java.util.HashMap<>(more);
        config.put("bootstrap.servers", bootstrap);
        config.put("linger.ms", 20);
        return new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static KafkaConsumer<byte[], byte[]> consumer(Map<String, Object> more) {
        Map<String, Object> config = new java.util.HashMap<>(more);
        config.put("bootstrap.servers", bootstrap);
        config.put("auto.offset.reset", "earliest");
        config.put("enable.auto.commit", false);
        return new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static byte[] value(int number) {
        return ("value " + number + " ").repeat(1 + number % 40).getBytes();
    }

    static List<RecordMetadata> send(
            KafkaProducer<byte[], byte[]> producer, String topic, int partition) throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (int number = 0; number < COUNT; number++) {
            ProducerRecord<byte[], byte[]> record =
                    new ProducerRecord<>(topic, partition, ("" + number).getBytes(), value(number));
            record.headers().add("number", ("" + number).getBytes());
            sent.add(producer.send(record));
        }
        producer.flush();
        List<RecordMetadata> acknowledged = new ArrayList<>();
        for (Future<RecordMetadata> each : sent) {
            acknowledged.add(each.get());
        }
        return acknowledged;
    }

    /** How many of the first records of a partition are what was sent there, in order. */
    static int right(KafkaConsumer<byte[], byte[]> consumer, TopicPartition from, int expected) {
        consumer.assign(List.of(from));
        consumer.seekToBeginning(List.of(from));
        int found = 0;
        while (found < expected) {
            var polled = consumer.poll(PATIENCE);
            if (polled.isEmpty()) {
                return found;
            }
            for (ConsumerRecord<byte[], byte[]> record : polled) {
                if (!isRight(record, found % COUNT)) {
                    return found;
                }
                found++;
            }
        }
        return found;
    }

    static boolean isRight(ConsumerRecord<byte[], byte[]> record, int number) {
        byte[] text = ("" + number).getBytes();
        return java.util.Arrays.equals(record.value(), value(number))
                && java.util.Arrays.equals(record.key(), text)
                && java.util.Arrays.equals(record.headers().lastHeader("number").value(), text)
                && Objects.nonNull(record.headers().lastHeader("traceparent"));
    }

    /** A partition for each codec. */
    static void codecs(String topic) throws Exception {
        for (int partition = 0; partition < CODECS.size(); partition++) {
            String codec = CODECS.get(partition);
            long last;
            try (var producer = producer(Map.of("compression.type", codec))) {
                List<RecordMetadata> sent = send(producer, topic, partition);
                last = sent.get(COUNT - 1).offset();
            }
            try (var consumer = consumer(Map.of())) {
                int right = right(consumer, new TopicPartition(topic, partition), COUNT);
                System.out.println(codec + " " + last + " " + right);
            }
        }
    }

    /** Committed, aborted, and committed together with the offset of a consumer. */
    static void transactions(String topic) throws Exception {
        TopicPartition read = new TopicPartition(topic, 1);
        try (var producer = producer(Map.of("transactional.id", topic));
                var consumer = consumer(Map.of("group.id", topic))) {
            producer.initTransactions();
            producer.beginTransaction();
            send(producer, topic, 0);
            producer.commitTransaction();
            producer.beginTransaction();
            send(producer, topic, 0);
            producer.abortTransaction();
            producer.beginTransaction();
            send(producer, topic, 0);
            consumer.assign(List.of(read));
            producer.sendOffsetsToTransaction(
                    Map.of(read, new OffsetAndMetadata(7)), consumer.groupMetadata());
            producer.commitTransaction();
            System.out.println("offset " + consumer.committed(java.util.Set.of(read)).get(read).offset());
        }
        try (var consumer = consumer(Map.of("isolation.level", "read_committed"))) {
            System.out.println("committed " + right(consumer, new TopicPartition(topic, 0), 2 * COUNT));
        }
        try (var consumer = consumer(Map.of())) {
            System.out.println("all " + right(consumer, new TopicPartition(topic, 0), 3 * COUNT));
        }
    }

    /** What becomes of a member of a share group. */
    static void share(String topic) {
        Map<String, Object> config = Map.of("bootstrap.servers", bootstrap, "group.id", topic);
        try (var consumer =
                new KafkaShareConsumer<>(
                        config, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(topic));
            consumer.poll(Duration.ofSeconds(10));
            System.out.println("share silence");
        } catch (UnsupportedVersionException refused) {
            System.out.println("share unsupported");
        } catch (KafkaException refused) {
            System.out.println("share " + refused);
        }
    }
}
