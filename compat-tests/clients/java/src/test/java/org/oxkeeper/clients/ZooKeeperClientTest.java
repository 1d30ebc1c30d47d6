package org.oxkeeper.clients;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.apache.zookeeper.ZooDefs.Ids.CREATOR_ALL_ACL;
import static org.apache.zookeeper.ZooDefs.Ids.OPEN_ACL_UNSAFE;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.OpResult;
import org.apache.zookeeper.Watcher.WatcherType;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.ClientInfo;
import org.apache.zookeeper.data.Stat;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** ZooKeeper's own Java client, one test per group of its calls. */
class ZooKeeperClientTest {
    private static final byte[] DATA = "data".getBytes(UTF_8);

    private ZooKeeper client;
    private String root;

    @BeforeEach
    void connect() throws Exception {
        client = Bed.connect();
        root = client.create("/" + Bed.freshName(), null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
    }

    @AfterEach
    void close() throws Exception {
        client.close();
    }

    private String make(String name, CreateMode mode) throws Exception {
        return client.create(root + "/" + name, DATA, OPEN_ACL_UNSAFE, mode);
    }

    private void sameThing(KeeperException.Code code, org.junit.jupiter.api.function.Executable call) {
        assertEquals(code, assertThrows(KeeperException.class, call).code());
    }

    @Test
    void createsReadsWritesAndDeletes() throws Exception {
        Stat made = new Stat();
        String node = client.create(root + "/a", DATA, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT, made);
        Stat read = new Stat();
        assertArrayEquals(DATA, client.getData(node, false, read));
        assertEquals(made, read);
        assertEquals(1, client.setData(node, new byte[0], 0).getVersion());
        assertArrayEquals(new byte[0], client.getData(node, false, null));
        assertNull(client.getData(root, false, null));
        sameThing(KeeperException.Code.BADVERSION, () -> client.setData(node, DATA, 0));
        sameThing(KeeperException.Code.NODEEXISTS, () -> make("a", CreateMode.PERSISTENT));
        sameThing(KeeperException.Code.NOTEMPTY, () -> client.delete(root, -1));
        client.delete(node, 1);
        assertNull(client.exists(node, false));
        sameThing(KeeperException.Code.NONODE, () -> client.getData(node, false, null));
    }

    @Test
    void createsEveryKindOfNode() throws Exception {
        assertEquals(root + "/s0000000000", make("s", CreateMode.PERSISTENT_SEQUENTIAL));
        assertEquals(root + "/s0000000001", make("s", CreateMode.EPHEMERAL_SEQUENTIAL));
        String ephemeral = make("e", CreateMode.EPHEMERAL);
        assertEquals(client.getSessionId(), client.exists(ephemeral, false).getEphemeralOwner());
        sameThing(KeeperException.Code.NOCHILDRENFOREPHEMERALS, () -> make("e/x", CreateMode.PERSISTENT));
        assertEquals(0, client.exists(make("c", CreateMode.CONTAINER), false).getEphemeralOwner());
        List<String> ephemerals = new ArrayList<>(client.getEphemerals(root));
        Collections.sort(ephemerals);
        assertEquals(Arrays.asList(ephemeral, root + "/s0000000001"), ephemerals);
        assertEquals(4, client.getAllChildrenNumber(root));
        Stat stat = new Stat();
        assertEquals(4, client.getChildren(root, false, stat).size());
        assertEquals(4, stat.getNumChildren());
        assertEquals(4, stat.getCversion());
    }

    @Test
    void nodesWithTimeToLiveAndEmptyContainersVanish() throws Exception {
        String mortal = client.create(
                root + "/ttl", DATA, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_WITH_TTL, null, 500);
        String numbered = client.create(
                root + "/t-", DATA, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL, null, 500);
        assertEquals(root + "/t-0000000001", numbered);
        String container = make("container", CreateMode.CONTAINER);
        client.delete(make("container/child", CreateMode.PERSISTENT), -1);
        for (String node : Arrays.asList(mortal, numbered, container)) {
            Bed.eventually(node + " is gone", () -> client.exists(node, false) == null);
        }
    }

    @Test
    void oneShotWatchesFireOnce() throws Exception {
        Bed.Events events = new Bed.Events();
        String node = root + "/w";
        assertNull(client.exists(node, events));
        make("w", CreateMode.PERSISTENT);
        assertEquals("NodeCreated " + node, events.next());
        client.getData(node, events, null);
        client.getChildren(node, events);
        client.setData(node, DATA, -1);
        client.setData(node, DATA, -1);
        assertEquals("NodeDataChanged " + node, events.next());
        make("w/child", CreateMode.PERSISTENT);
        assertEquals("NodeChildrenChanged " + node, events.next());
        client.exists(node + "/child", events);
        client.delete(node + "/child", -1);
        assertEquals("NodeDeleted " + node + "/child", events.next());
        client.exists(root, false);
        assertTrue(events.isEmpty());
    }

    @Test
    void persistentWatchesStayUntilTheyAreRemoved() throws Exception {
        Bed.Events plain = new Bed.Events();
        Bed.Events recursive = new Bed.Events();
        client.addWatch(root, plain, AddWatchMode.PERSISTENT);
        client.addWatch(root, recursive, AddWatchMode.PERSISTENT_RECURSIVE);
        for (String name : Arrays.asList("a", "a/b")) {
            make(name, CreateMode.PERSISTENT);
            assertEquals("NodeCreated " + root + "/" + name, recursive.next());
        }
        assertEquals("NodeChildrenChanged " + root, plain.next());
        client.delete(root + "/a/b", -1);
        assertEquals("NodeDeleted " + root + "/a/b", recursive.next());
        client.removeWatches(root, recursive, WatcherType.Any, false);
        assertEquals("PersistentWatchRemoved " + root, recursive.next());
        client.setData(root, DATA, -1);
        assertEquals("NodeDataChanged " + root, plain.next());
        assertTrue(recursive.isEmpty());
        sameThing(KeeperException.Code.NOWATCHER,
                () -> client.removeWatches(root, recursive, WatcherType.Any, false));
    }

    @Test
    void watchesSurviveTheMoveOfTheConnection() throws Exception {
        Bed.Events events = new Bed.Events();
        client.getData(root, events, null);
        client.getChildren(root, events);
        client.exists(root + "/later", events);
        client.addWatch(root, new Bed.Events(), AddWatchMode.PERSISTENT);
        // Another client of the same session pushes this one off; it comes back and arms its watches.
        ZooKeeper other = Bed.connect();
        CountDownLatch back = new CountDownLatch(1);
        client.register(event -> {
            if (event.getState() == org.apache.zookeeper.Watcher.Event.KeeperState.SyncConnected) {
                back.countDown();
            }
        });
        pushOff();
        other.setData(root, DATA, -1);
        assertTrue(back.await(Bed.WAIT_SECONDS_MAX, TimeUnit.SECONDS));
        assertEquals("NodeDataChanged " + root, events.next());
        other.create(root + "/later", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        List<String> both = new ArrayList<>(Arrays.asList(events.next(), events.next()));
        Collections.sort(both);
        assertEquals(Arrays.asList("NodeChildrenChanged " + root, "NodeCreated " + root + "/later"), both);
        other.close();
    }

    /** Breaks the client's connection without ending its session. */
    private void pushOff() throws Exception {
        client.getTestable().closeSocket();
    }

    @Test
    void aSessionMovesWithItsPasswordOnly() throws Exception {
        String ephemeral = make("e", CreateMode.EPHEMERAL);
        ZooKeeper heir = Bed.takeOver(client);
        assertEquals(client.getSessionId(), heir.getSessionId());
        heir.close();
        ZooKeeper other = Bed.connect();
        assertNull(other.exists(ephemeral, false));
        other.close();
    }

    @Test
    void multiIsAllOrNothing() throws Exception {
        String a = root + "/a";
        List<OpResult> done = client.multi(Arrays.asList(
                Op.create(a, DATA, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT),
                Op.create(root + "/q-", DATA, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL),
                Op.setData(a, DATA, 0),
                Op.check(a, 1)));
        assertEquals(a, ((OpResult.CreateResult) done.get(0)).getPath());
        assertEquals(root + "/q-0000000001", ((OpResult.CreateResult) done.get(1)).getPath());
        assertEquals(1, ((OpResult.SetDataResult) done.get(2)).getStat().getVersion());
        KeeperException failure = assertThrows(KeeperException.class, () -> client.multi(Arrays.asList(
                Op.delete(a, -1), Op.check(a, 1), Op.delete(root + "/q-0000000001", -1))));
        List<Integer> codes = failure.getResults().stream()
                .map(result -> ((OpResult.ErrorResult) result).getErr())
                .collect(Collectors.toList());
        assertEquals(KeeperException.Code.NONODE, failure.code());
        assertEquals(Arrays.asList(0, -101, -2), codes);
        assertNotNull(client.exists(a, false));
    }

    @Test
    void multiReadAnswersEachPartByItself() throws Exception {
        make("a", CreateMode.PERSISTENT);
        List<OpResult> results = client.multi(Arrays.asList(
                Op.getData(root + "/a"), Op.getChildren(root), Op.getData(root + "/none")));
        assertArrayEquals(DATA, ((OpResult.GetDataResult) results.get(0)).getData());
        assertEquals(List.of("a"), ((OpResult.GetChildrenResult) results.get(1)).getChildren());
        assertEquals(-101, ((OpResult.ErrorResult) results.get(2)).getErr());
    }

    @Test
    void accessListsAreKept() throws Exception {
        client.addAuthInfo("digest", "u:p".getBytes(UTF_8));
        String secret = client.create(root + "/secret", DATA, CREATOR_ALL_ACL, CreateMode.PERSISTENT);
        Stat stat = new Stat();
        assertEquals("digest", client.getACL(secret, stat).get(0).getId().getScheme());
        assertTrue(client.whoAmI().stream().map(ClientInfo::getUser).anyMatch("u"::equals));
        ZooKeeper other = Bed.connect();
        sameThing(KeeperException.Code.NOAUTH, () -> other.getData(secret, false, null));
        assertEquals(1, client.setACL(secret, OPEN_ACL_UNSAFE, 0).getAversion());
        assertArrayEquals(DATA, other.getData(secret, false, null));
        other.close();
        sameThing(KeeperException.Code.INVALIDACL,
                () -> client.create(root + "/x", DATA, List.of(), CreateMode.PERSISTENT));
    }

    @Test
    void manyRequestsInFlightAreAnsweredInOrder() throws Exception {
        int count = 5_000;
        List<String> answered = Collections.synchronizedList(new ArrayList<>());
        CountDownLatch all = new CountDownLatch(count);
        List<String> expected = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            expected.add(String.format("%s/n%010d", root, i));
            client.create(root + "/n", DATA, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL,
                    (code, path, context, name) -> {
                        answered.add(name);
                        all.countDown();
                    }, null);
        }
        assertTrue(all.await(Bed.WAIT_SECONDS_MAX, TimeUnit.SECONDS));
        assertEquals(expected, answered);
        assertEquals(count, client.getChildren(root, false).size());
    }

    @Test
    void pathsAndDataMayHoldAnyCharacters() throws Exception {
        String name = "größe-日本-%20 x";
        String node = make(name, CreateMode.PERSISTENT);
        assertEquals(List.of(name), client.getChildren(root, false));
        byte[] large = new byte[1_000_000];
        Arrays.fill(large, (byte) 0xfe);
        client.setData(node, large, -1);
        assertArrayEquals(large, client.getData(node, false, null));
    }

    @Test
    void syncAndConfigAnswer() throws Exception {
        CountDownLatch synced = new CountDownLatch(1);
        client.sync(root, (code, path, context) -> synced.countDown(), null);
        assertTrue(synced.await(Bed.WAIT_SECONDS_MAX, TimeUnit.SECONDS));
        assertNotNull(client.exists("/zookeeper/config", false));
        assertFalse(client.getChildren("/", false).isEmpty());
    }
}
