package org.oxkeeper.clients;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.api.transaction.CuratorTransactionResult;
import org.apache.curator.framework.recipes.atomic.AtomicValue;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.CuratorCacheListener;
import org.apache.curator.framework.recipes.cache.NodeCache;
import org.apache.curator.framework.recipes.cache.PathChildrenCache;
import org.apache.curator.framework.recipes.cache.TreeCache;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.nodes.PersistentTtlNode;
import org.apache.curator.framework.recipes.queue.SimpleDistributedQueue;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.framework.recipes.watch.PersistentWatcher;
import org.apache.curator.retry.RetryNTimes;
import org.apache.curator.x.discovery.ServiceCache;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.data.Stat;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** Curator's recipes that keep data, copies of it, or presence. */
@SuppressWarnings("deprecation") // the caches of old are what many applications use
class CuratorDataTest {
    private CuratorFramework client;
    private CuratorFramework other;

    @BeforeEach
    void start() {
        String namespace = Bed.freshName();
        client = Bed.curator(namespace);
        other = Bed.curator(namespace);
    }

    @AfterEach
    void close() {
        other.close();
        client.close();
    }

    private static byte[] bytes(String text) {
        return text.getBytes(UTF_8);
    }

    @Test
    void createsWithParentsProtectionAndModes() throws Exception {
        String plain = client.create().creatingParentsIfNeeded().forPath("/a/b/c", bytes("x"));
        assertEquals("/a/b/c", plain);
        String name = client.create().creatingParentContainersIfNeeded().withProtection()
                .withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath("/p/n-", bytes("x"));
        assertTrue(name.matches("/p/_c_[-0-9a-f]{36}-n-0000000000"), name);
        Stat stat = new Stat();
        assertEquals("/s", client.create().storingStatIn(stat).forPath("/s", bytes("four")));
        assertEquals(4, stat.getDataLength());
        assertEquals("/a/b/c", client.create().orSetData().forPath("/a/b/c", bytes("y")));
        assertArrayEquals(bytes("y"), other.getData().forPath("/a/b/c"));
        client.delete().guaranteed().deletingChildrenIfNeeded().forPath("/a");
        assertNull(other.checkExists().forPath("/a"));
    }

    @Test
    void parentContainersAndTtlNodesVanish() throws Exception {
        client.create().creatingParentContainersIfNeeded().forPath("/container/child");
        client.delete().forPath("/container/child");
        client.create().withTtl(500).withMode(CreateMode.PERSISTENT_WITH_TTL).forPath("/ttl", bytes("x"));
        Bed.eventually("the container is gone", () -> other.checkExists().forPath("/container") == null);
        Bed.eventually("the TTL node is gone", () -> other.checkExists().forPath("/ttl") == null);
    }

    @Test
    void transactionsAreAllOrNothing() throws Exception {
        List<CuratorTransactionResult> results = client.transaction().forOperations(
                client.transactionOp().create().forPath("/t", bytes("x")),
                client.transactionOp().setData().withVersion(0).forPath("/t", bytes("y")),
                client.transactionOp().check().withVersion(1).forPath("/t"));
        assertEquals("/t", results.get(0).getForPath());
        assertEquals(1, results.get(1).getResultStat().getVersion());
        assertThrows(KeeperException.BadVersionException.class, () -> client.transaction().forOperations(
                client.transactionOp().create().forPath("/u"),
                client.transactionOp().delete().withVersion(0).forPath("/t")));
        assertNull(client.checkExists().forPath("/u"));
    }

    @Test
    void aCuratorCacheFollowsATree() throws Exception {
        client.create().creatingParentsIfNeeded().forPath("/tree/old", bytes("1"));
        BlockingQueue<String> seen = new LinkedBlockingQueue<>();
        try (CuratorCache cache = CuratorCache.build(client, "/tree")) {
            cache.listenable().addListener(CuratorCacheListener.builder()
                    .forCreates(node -> seen.add("+" + node.getPath()))
                    .forChanges((was, is) -> seen.add("=" + is.getPath()))
                    .forDeletes(node -> seen.add("-" + node.getPath()))
                    .build());
            cache.start();
            List<String> first = List.of(next(seen), next(seen));
            assertTrue(first.containsAll(List.of("+/tree", "+/tree/old")), first.toString());
            other.create().forPath("/tree/new", bytes("2"));
            assertEquals("+/tree/new", next(seen));
            other.create().forPath("/tree/new/deep", bytes("3"));
            assertEquals("+/tree/new/deep", next(seen));
            other.setData().forPath("/tree/old", bytes("4"));
            assertEquals("=/tree/old", next(seen));
            other.delete().forPath("/tree/new/deep");
            assertEquals("-/tree/new/deep", next(seen));
            assertArrayEquals(bytes("4"), cache.get("/tree/old").orElseThrow().getData());
            assertEquals(3, cache.size());
        }
    }

    private static String next(BlockingQueue<String> seen) throws InterruptedException {
        return String.valueOf(seen.poll(Bed.WAIT_SECONDS_MAX, TimeUnit.SECONDS));
    }

    @Test
    void aCuratorCacheCatchesUpAfterItsSessionEnded() throws Exception {
        client.create().creatingParentsIfNeeded().forPath("/tree/a", bytes("1"));
        try (CuratorCache cache = CuratorCache.build(client, "/tree")) {
            cache.start();
            Bed.eventually("it is filled", () -> cache.size() == 2);
            Bed.expire(client);
            other.create().forPath("/tree/b", bytes("2"));
            other.delete().forPath("/tree/a");
            Bed.eventually("it has b", () -> cache.get("/tree/b").isPresent());
            Bed.eventually("it has no a", () -> cache.get("/tree/a").isEmpty());
            other.create().forPath("/tree/c");
            Bed.eventually("it goes on", () -> cache.get("/tree/c").isPresent());
        }
    }

    @Test
    void theOldCachesFollowToo() throws Exception {
        client.create().creatingParentsIfNeeded().forPath("/old/a", bytes("1"));
        try (PathChildrenCache children = new PathChildrenCache(client, "/old", true);
                NodeCache node = new NodeCache(client, "/old/a");
                TreeCache tree = new TreeCache(client, "/old")) {
            children.start(PathChildrenCache.StartMode.BUILD_INITIAL_CACHE);
            node.start(true);
            tree.start();
            assertEquals(1, children.getCurrentData().size());
            other.create().forPath("/old/b", bytes("2"));
            other.setData().forPath("/old/a", bytes("3"));
            Bed.eventually("children", () -> children.getCurrentData().size() == 2);
            Bed.eventually("child's data", () ->
                    "3".equals(new String(children.getCurrentData("/old/a").getData(), UTF_8)));
            Bed.eventually("node", () -> "3".equals(new String(node.getCurrentData().getData(), UTF_8)));
            Bed.eventually("tree", () -> tree.getCurrentChildren("/old") != null
                    && tree.getCurrentChildren("/old").size() == 2);
            other.delete().forPath("/old/a");
            Bed.eventually("no node", () -> node.getCurrentData() == null);
            Bed.eventually("one child", () -> children.getCurrentData().size() == 1);
        }
    }

    @Test
    void aPersistentWatcherSeesEveryChange() throws Exception {
        BlockingQueue<String> seen = new LinkedBlockingQueue<>();
        client.create().forPath("/watched");
        try (PersistentWatcher watcher = new PersistentWatcher(client, "/watched", true)) {
            watcher.getListenable().addListener(event -> seen.add(event.getType() + " " + event.getPath()));
            java.util.concurrent.CountDownLatch armed = new java.util.concurrent.CountDownLatch(1);
            watcher.getResetListenable().addListener(armed::countDown);
            watcher.start();
            assertTrue(armed.await(Bed.WAIT_SECONDS_MAX, TimeUnit.SECONDS));
            for (int i = 0; i < 50; i++) {
                other.create().forPath("/watched/" + i);
            }
            for (int i = 0; i < 50; i++) {
                assertEquals("NodeCreated /watched/" + i, next(seen));
            }
        }
    }

    @Test
    void servicesAreFoundWhileTheyLive() throws Exception {
        ServiceInstance<Void> here = ServiceInstance.<Void>builder().name("web").id("1").port(80).build();
        try (ServiceDiscovery<Void> mine = discovery(client, here); ServiceDiscovery<Void> theirs = discovery(other, null)) {
            mine.start();
            theirs.start();
            Collection<ServiceInstance<Void>> found = theirs.queryForInstances("web");
            assertEquals(1, found.size());
            assertEquals(80, found.iterator().next().getPort());
            try (ServiceCache<Void> cache = theirs.serviceCacheBuilder().name("web").build()) {
                cache.start();
                assertEquals(1, cache.getInstances().size());
                Bed.expire(client);
                // Registered again by itself in the new session.
                Bed.eventually("it is back", () -> owner("/services/web/1") == session(client));
                Bed.eventually("found again", () -> cache.getInstances().size() == 1);
                mine.unregisterService(here);
                Bed.eventually("it is gone", () -> cache.getInstances().isEmpty());
            }
        }
    }

    private static ServiceDiscovery<Void> discovery(CuratorFramework client, ServiceInstance<Void> instance) {
        return ServiceDiscoveryBuilder.builder(Void.class)
                .client(client).basePath("/services").thisInstance(instance).build();
    }

    private long owner(String path) throws Exception {
        Stat stat = other.checkExists().forPath(path);
        return stat == null ? 0 : stat.getEphemeralOwner();
    }

    private static long session(CuratorFramework client) throws Exception {
        return client.getZookeeperClient().getZooKeeper().getSessionId();
    }

    @Test
    void countersCountEveryIncrement() throws Exception {
        List<Thread> threads = new ArrayList<>();
        for (CuratorFramework each : List.of(client, other)) {
            DistributedAtomicLong counter = new DistributedAtomicLong(each, "/atomic", new RetryNTimes(1_000, 1));
            Thread thread = new Thread(() -> {
                for (int i = 0; i < 50; i++) {
                    try {
                        assertTrue(counter.increment().succeeded());
                    } catch (Exception e) {
                        throw new AssertionError(e);
                    }
                }
            });
            thread.start();
            threads.add(thread);
        }
        for (Thread thread : threads) {
            thread.join();
        }
        AtomicValue<Long> value = new DistributedAtomicLong(client, "/atomic", new RetryNTimes(10, 1)).get();
        assertEquals(100, value.postValue());
    }

    @Test
    void aSharedCountTellsOthers() throws Exception {
        try (SharedCount mine = new SharedCount(client, "/count", 7); SharedCount theirs = new SharedCount(other, "/count", 0)) {
            mine.start();
            theirs.start();
            assertEquals(7, theirs.getCount());
            assertTrue(mine.trySetCount(mine.getVersionedValue(), 8));
            Bed.eventually("they see it", () -> theirs.getCount() == 8);
        }
    }

    @Test
    void persistentNodesComeBackAfterTheSession() throws Exception {
        try (PersistentNode node = new PersistentNode(client, CreateMode.EPHEMERAL, false, "/presence", bytes("x"));
                GroupMember member = new GroupMember(client, "/group", "me", bytes("here"))) {
            node.start();
            member.start();
            assertTrue(node.waitForInitialCreate(Bed.WAIT_SECONDS_MAX, TimeUnit.SECONDS));
            long before = session(client);
            assertEquals(before, owner("/presence"));
            Bed.expire(client);
            Bed.eventually("it is back", () -> owner("/presence") != 0 && owner("/presence") != before);
            Bed.eventually("its group too", () -> owner("/group/me") == session(client));
            assertNotEquals(before, session(client));
            other.delete().forPath("/presence");
            Bed.eventually("it is back again", () -> owner("/presence") == session(client));
        }
    }

    @Test
    void aPersistentTtlNodeLivesWhileItsOwnerDoes() throws Exception {
        try (PersistentTtlNode node = new PersistentTtlNode(client, "/living", 1_500, new byte[0])) {
            node.start();
            assertTrue(node.waitForInitialCreate(Bed.WAIT_SECONDS_MAX, TimeUnit.SECONDS));
            Thread.sleep(4_000);
            assertNotNull(other.checkExists().forPath("/living"));
        }
        // Not the owner's close removes it, but the end of its time.
        Bed.eventually("it is gone", () -> other.checkExists().forPath("/living") == null);
    }

    @Test
    void aQueueGivesEachItemOnce() throws Exception {
        SimpleDistributedQueue mine = new SimpleDistributedQueue(client, "/queue");
        SimpleDistributedQueue theirs = new SimpleDistributedQueue(other, "/queue");
        for (int i = 0; i < 10; i++) {
            assertTrue(mine.offer(bytes("item" + i)));
        }
        for (int i = 0; i < 10; i++) {
            SimpleDistributedQueue taker = i % 2 == 0 ? mine : theirs;
            assertArrayEquals(bytes("item" + i), taker.poll(Bed.WAIT_SECONDS_MAX, TimeUnit.SECONDS));
        }
        assertNull(mine.poll(100, TimeUnit.MILLISECONDS));
        assertFalse(other.getChildren().forPath("/queue").contains("qn-0000000000"));
    }
}
