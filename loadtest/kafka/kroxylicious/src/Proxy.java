package meshproxy.loadtest;

import io.kroxylicious.proxy.KafkaProxy;
import io.kroxylicious.proxy.config.ConfigParser;
import io.kroxylicious.proxy.internal.config.Features;
import java.nio.file.Files;
import java.nio.file.Path;

/** Runs Kroxylicious with the configuration file that is named on the command line. */
public final class Proxy {

    private Proxy() {}

    public static void main(String... arguments) throws Exception {
        var parser = new ConfigParser();
        try (var file = Files.newInputStream(Path.of(arguments[0]));
                var proxy =
                        new KafkaProxy(
                                parser,
                                parser.parseConfiguration(file),
                                Features.defaultFeatures())) {
            proxy.startup();
            proxy.block();
        }
    }
}
