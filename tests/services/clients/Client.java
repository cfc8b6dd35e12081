// What Java's HttpClient meets behind a proxy: java Client.java BASE_URL; prints a line a case.
import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CompletableFuture;

public class Client {
    private static final byte[] BODY = new byte[8 * 1024 * 1024];

    private final HttpClient client;
    private final String base;

    private Client(String base, HttpClient.Version version) {
        this.base = base;
        this.client = HttpClient.newBuilder().version(version).build();
    }

    private HttpRequest.Builder to(String path) {
        return HttpRequest.newBuilder(URI.create(base + path));
    }

    private String text(HttpRequest request) throws Exception {
        return client.send(request, BodyHandlers.ofString()).body();
    }

    private void say(String name, Object result) {
        System.out.println(name + " " + result);
    }

    private boolean getsAtOnce() {
        List<CompletableFuture<HttpResponse<String>>> answers = new ArrayList<>();
        for (int number = 0; number < 200; number++) {
            answers.add(client.sendAsync(to("/number/" + number).build(), BodyHandlers.ofString()));
        }
        for (int number = 0; number < answers.size(); number++) {
            if (!answers.get(number).join().body().equals(String.valueOf(number))) {
                return false;
            }
        }
        return true;
    }

    private boolean upload(HttpRequest.BodyPublisher body, boolean expect) throws Exception {
        HttpRequest request = to("/upload").PUT(body).expectContinue(expect).build();
        return text(request).contains("\"length\": " + BODY.length);
    }

    private void run(String prefix) throws Exception {
        HttpResponse<String> first =
            client.send(to("/number/1").build(), BodyHandlers.ofString());
        say(prefix + "version", first.version());
        say(prefix + "getsAtOnce", getsAtOnce());
        say(prefix + "upload", upload(BodyPublishers.ofByteArray(BODY), false));
        say(prefix + "chunked",
            upload(BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(BODY)), false));
        say(prefix + "continued", upload(BodyPublishers.ofByteArray(BODY), true));
        byte[] got = client.send(
            to("/download?bytes=8388608").build(), BodyHandlers.ofByteArray()).body();
        say(prefix + "download", got.length);
    }

    public static void main(String[] arguments) throws Exception {
        Arrays.fill(BODY, (byte) 'x');
        // By default it asks every plain-text server to change to HTTP/2 (Upgrade: h2c).
        new Client(arguments[0], HttpClient.Version.HTTP_2).run("default.");
        new Client(arguments[0], HttpClient.Version.HTTP_1_1).run("http1.");
        System.exit(0);
    }
}
