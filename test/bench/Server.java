import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.util.HashMap;
import java.util.Map;

/** A small server that does, while it starts, what frameworks do: it fills caches and warms its code. */
public class Server {
    public static void main(String[] args) throws Exception {
        Map<String, byte[]> cache = new HashMap<>();
        for (int i = 0; i < 200_000; i++) {
            cache.put("entry" + i, ("value" + i).repeat(8).getBytes());
        }
        byte[] hello = ("hello " + cache.size() + "\n").getBytes();
        HttpServer server = HttpServer.create(new InetSocketAddress(80), 0);
        server.createContext("/", exchange -> {
            exchange.sendResponseHeaders(200, hello.length);
            exchange.getResponseBody().write(hello);
            exchange.close();
        });
        server.start();
    }
}
