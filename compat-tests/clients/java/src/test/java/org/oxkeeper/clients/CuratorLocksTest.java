package org.oxkeeper.clients;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.curator.framework.recipes.locks.InterProcessMultiLock;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreMutex;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** Curator's recipes that let one or some of many go on. */
class CuratorLocksTest {
    private static final int THREADS = 4;
    private static final int ROUNDS = 10;

    private String namespace;
    private CuratorFramework client;
    private CuratorFramework other;
    private ExecutorService pool;

    @BeforeEach
    void start() {
        namespace = Bed.freshName();
        client = Bed.curator(namespace);
        other = Bed.curator(namespace);
        pool = Executors.newFixedThreadPool(THREADS);
    }

    @AfterEach
    void close() {
        pool.shutdownNow();
        other.close();
        client.close();
    }

    /** Half of the threads work through one client, half through the other. */
    private CuratorFramework clientOf(int thread) {
        return thread % 2 == 0 ? client : other;
    }

    @Test
    void aMutexLetsInOneAtATime() throws Exception {
        AtomicInteger inside = new AtomicInteger();
        AtomicInteger entered = new AtomicInteger();
        List<Future<?>> threads = new ArrayList<>();
        for (int thread = 0; thread < THREADS; thread++) {
            InterProcessMutex mutex = new InterProcessMutex(clientOf(thread), "/lock");
            threads.add(pool.submit(() -> {
                for (int round = 0; round < ROUNDS; round++) {
                    assertTrue(mutex.acquire(Bed.WAIT_SECONDS_MAX, TimeUnit.SECONDS));
                    assertEquals(1, inside.incrementAndGet());
                    entered.incrementAndGet();
                    inside.decrementAndGet();
                    mutex.release();
                }
                return null;
            }));
        }
        for (Future<?> thread : threads) {
            thread.get();
        }
        assertEquals(THREADS * ROUNDS, entered.get());
    }

    @Test
    void aMutexIsReentrantAndTimesOut() throws Exception {
        InterProcessMutex mine = new InterProcessMutex(client, "/lock");
        InterProcessMutex theirs = new InterProcessMutex(other, "/lock");
        mine.acquire();
        mine.acquire();
        mine.release();
        assertFalse(theirs.acquire(300, TimeUnit.MILLISECONDS));
        mine.release();
        assertTrue(theirs.acquire(Bed.WAIT_SECONDS_MAX, TimeUnit.SECONDS));
        assertEquals(1, theirs.getParticipantNodes().size());
        theirs.release();
    }

    @Test
    void aMutexIsFreedWhenItsHoldersSessionEnds() throws Exception {
        new InterProcessSemaphoreMutex(client, "/lock").acquire();
        InterProcessSemaphoreMutex theirs = new InterProcessSemaphoreMutex(other, "/lock");
        assertFalse(theirs.acquire(300, TimeUnit.MILLISECONDS));
        Bed.expire(client);
        assertTrue(theirs.acquire(Bed.WAIT_SECONDS_MAX, TimeUnit.SECONDS));
    }

    @Test
    void aReadWriteLockLetsInManyReadersOrOneWriter() throws Exception {
        InterProcessReadWriteLock mine = new InterProcessReadWriteLock(client, "/rw");
        InterProcessReadWriteLock theirs = new InterProcessReadWriteLock(other, "/rw");
        mine.readLock().acquire();
        assertTrue(theirs.readLock().acquire(Bed.WAIT_SECONDS_MAX, TimeUnit.SECONDS));
        theirs.readLock().release();
        assertFalse(theirs.writeLock().acquire(300, TimeUnit.MILLISECONDS));
        mine.readLock().release();
        assertTrue(theirs.writeLock().acquire(Bed.WAIT_SECONDS_MAX, TimeUnit.SECONDS));
        assertTrue(theirs.readLock().acquire(Bed.WAIT_SECONDS_MAX, TimeUnit.SECONDS));
        assertFalse(mine.readLock().acquire(300, TimeUnit.MILLISECONDS));
        theirs.readLock().release();
        theirs.writeLock().release();
        assertTrue(mine.readLock().acquire(Bed.WAIT_SECONDS_MAX, TimeUnit.SECONDS));
    }

    @Test
    void aMultiLockTakesAllOrNone() throws Exception {
        InterProcessMultiLock both = new InterProcessMultiLock(client, List.of("/a", "/b"));
        InterProcessMutex b = new InterProcessMutex(other, "/b");
        InterProcessMutex a = new InterProcessMutex(other, "/a");
        b.acquire();
        assertFalse(both.acquire(300, TimeUnit.MILLISECONDS));
        assertTrue(a.acquire(Bed.WAIT_SECONDS_MAX, TimeUnit.SECONDS));
        a.release();
        b.release();
        assertTrue(both.acquire(Bed.WAIT_SECONDS_MAX, TimeUnit.SECONDS));
        both.release();
    }

    @Test
    void aSemaphoreHandsOutItsLeases() throws Exception {
        InterProcessSemaphoreV2 mine = new InterProcessSemaphoreV2(client, "/semaphore", 2);
        InterProcessSemaphoreV2 theirs = new InterProcessSemaphoreV2(other, "/semaphore", 2);
        Lease first = mine.acquire();
        Lease second = theirs.acquire(Bed.WAIT_SECONDS_MAX, TimeUnit.SECONDS);
        assertNotNull(second);
        assertNull(theirs.acquire(300, TimeUnit.MILLISECONDS));
        mine.returnLease(first);
        assertNotNull(theirs.acquire(Bed.WAIT_SECONDS_MAX, TimeUnit.SECONDS));
        assertEquals(2, theirs.getParticipantNodes().size());
    }

    @Test
    void aLeaderLatchPassesOnWhenItsLeaderGoes() throws Exception {
        LeaderLatch mine = new LeaderLatch(client, "/latch", "mine");
        LeaderLatch theirs = new LeaderLatch(other, "/latch", "theirs");
        mine.start();
        assertTrue(mine.await(Bed.WAIT_SECONDS_MAX, TimeUnit.SECONDS));
        theirs.start();
        Bed.eventually("both stand", () -> mine.getParticipants().size() == 2);
        assertEquals("mine", theirs.getLeader().getId());
        assertFalse(theirs.hasLeadership());
        mine.close();
        assertTrue(theirs.await(Bed.WAIT_SECONDS_MAX, TimeUnit.SECONDS));
        theirs.close();
    }

    @Test
    void aLeaderLatchIsLostWithTheSessionAndWonAgain() throws Exception {
        LeaderLatch mine = new LeaderLatch(client, "/latch", "mine");
        LeaderLatch theirs = new LeaderLatch(other, "/latch", "theirs");
        mine.start();
        assertTrue(mine.await(Bed.WAIT_SECONDS_MAX, TimeUnit.SECONDS));
        theirs.start();
        Bed.eventually("both stand", () -> mine.getParticipants().size() == 2);
        Bed.expire(client);
        assertTrue(theirs.await(Bed.WAIT_SECONDS_MAX, TimeUnit.SECONDS));
        Bed.eventually("mine knows", () -> !mine.hasLeadership());
        Bed.eventually("mine stands again", () -> theirs.getParticipants().size() == 2);
        theirs.close();
        assertTrue(mine.await(Bed.WAIT_SECONDS_MAX, TimeUnit.SECONDS));
        mine.close();
    }

    @Test
    void aLeaderSelectorGivesEachItsTurn() throws Exception {
        CountDownLatch turns = new CountDownLatch(3);
        AtomicInteger leaders = new AtomicInteger();
        List<LeaderSelector> selectors = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            LeaderSelector selector = new LeaderSelector(clientOf(i), "/selector", new LeaderSelectorListenerAdapter() {
                @Override
                public void takeLeadership(CuratorFramework leader) throws Exception {
                    assertEquals(1, leaders.incrementAndGet());
                    Thread.sleep(50);
                    leaders.decrementAndGet();
                    turns.countDown();
                }
            });
            selector.start();
            selectors.add(selector);
        }
        assertTrue(turns.await(Bed.WAIT_SECONDS_MAX, TimeUnit.SECONDS));
        selectors.forEach(LeaderSelector::close);
    }

    @Test
    void aBarrierHoldsUntilItIsRemoved() throws Exception {
        DistributedBarrier barrier = new DistributedBarrier(client, "/barrier");
        barrier.setBarrier();
        DistributedBarrier theirs = new DistributedBarrier(other, "/barrier");
        assertFalse(theirs.waitOnBarrier(200, TimeUnit.MILLISECONDS));
        Future<Boolean> waiting = pool.submit(() -> theirs.waitOnBarrier(Bed.WAIT_SECONDS_MAX, TimeUnit.SECONDS));
        barrier.removeBarrier();
        assertTrue(waiting.get());
    }

    @Test
    void aDoubleBarrierLetsAllInAndAllOut() throws Exception {
        AtomicInteger inside = new AtomicInteger();
        List<Future<Integer>> threads = new ArrayList<>();
        for (int i = 0; i < THREADS; i++) {
            DistributedDoubleBarrier barrier = new DistributedDoubleBarrier(clientOf(i), "/double", THREADS);
            threads.add(pool.submit(() -> {
                inside.incrementAndGet();
                assertTrue(barrier.enter(Bed.WAIT_SECONDS_MAX, TimeUnit.SECONDS));
                int seen = inside.get();
                assertTrue(barrier.leave(Bed.WAIT_SECONDS_MAX, TimeUnit.SECONDS));
                return seen;
            }));
        }
        for (Future<Integer> thread : threads) {
            assertEquals(THREADS, thread.get());
        }
    }
}
