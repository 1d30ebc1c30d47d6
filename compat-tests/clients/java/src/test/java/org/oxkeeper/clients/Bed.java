package org.oxkeeper.clients;

import java.util.UUID;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.retry.RetryOneTime;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooKeeper;

/** The server that tests run on, and what waits for it. */
final class Bed {
    static final String SERVER = System.getProperty("server");
    static final int SESSION_TIMEOUT_MS = 10_000;
    static final long WAIT_SECONDS_MAX = 20;

    private Bed() {}

    /** A path that no other test uses. */
    static String freshName() {
        return "java-" + UUID.randomUUID();
    }

    static ZooKeeper connect() throws Exception {
        return connected(watcher -> new ZooKeeper(SERVER, SESSION_TIMEOUT_MS, watcher));
    }

    /** A second client of the same session. */
    static ZooKeeper takeOver(ZooKeeper owner) throws Exception {
        long id = owner.getSessionId();
        byte[] password = owner.getSessionPasswd();
        return connected(watcher -> new ZooKeeper(SERVER, SESSION_TIMEOUT_MS, watcher, id, password));
    }

    private interface Opening {
        ZooKeeper with(Watcher watcher) throws Exception;
    }

    private static ZooKeeper connected(Opening opening) throws Exception {
        CountDownLatch connected = new CountDownLatch(1);
        ZooKeeper client = opening.with(event -> {
            if (event.getState() == Watcher.Event.KeeperState.SyncConnected) {
                connected.countDown();
            }
        });
        if (!connected.await(WAIT_SECONDS_MAX, TimeUnit.SECONDS)) {
            client.close();
            throw new AssertionError("not connected to " + SERVER);
        }
        return client;
    }

    /** A Curator client below a path of its own. */
    static CuratorFramework curator() {
        return curator(freshName());
    }

    static CuratorFramework curator(String namespace) {
        CuratorFramework client = CuratorFrameworkFactory.builder()
                .connectString(SERVER)
                .namespace(namespace)
                .sessionTimeoutMs(SESSION_TIMEOUT_MS)
                .connectionTimeoutMs(SESSION_TIMEOUT_MS)
                .retryPolicy(new RetryOneTime(100))
                .build();
        client.start();
        return client;
    }

    /** Ends a client's session behind its back: it finds out that it has expired. */
    static void expire(CuratorFramework client) throws Exception {
        takeOver(client.getZookeeperClient().getZooKeeper()).close();
    }

    /** Waits until it is so. */
    static void eventually(String what, Callable<Boolean> condition) throws Exception {
        long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(WAIT_SECONDS_MAX);
        while (!condition.call()) {
            if (System.nanoTime() > until) {
                throw new AssertionError("not within " + WAIT_SECONDS_MAX + " s: " + what);
            }
            Thread.sleep(20);
        }
    }

    /** A watcher that keeps what it is told. */
    static final class Events implements Watcher {
        private final BlockingQueue<WatchedEvent> events = new LinkedBlockingQueue<>();

        @Override
        public void process(WatchedEvent event) {
            if (event.getType() != Event.EventType.None) {
                events.add(event);
            }
        }

        /** The next one as {@code NodeCreated /path}. */
        String next() throws InterruptedException {
            WatchedEvent event = events.poll(WAIT_SECONDS_MAX, TimeUnit.SECONDS);
            return event == null ? "nothing" : event.getType() + " " + event.getPath();
        }

        boolean isEmpty() {
            return events.isEmpty();
        }
    }
}
