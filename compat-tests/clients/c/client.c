/* Uses a server through ZooKeeper's multithreaded C library: client HOST:PORT ROOT
 *
 * Prints a line for each step, "ok NAME" or "not ok NAME: what was seen", and at the end "done".
 */

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <zookeeper/zookeeper.h>

#define SESSION_TIMEOUT_MS 10000
#define WAIT_SECONDS_MAX 20
#define PATH_BYTES_MAX 256
#define EVENTS_MAX 64

/* What watchers were told, oldest first; guarded by the mutex. */
struct event {
    int type;
    char path[PATH_BYTES_MAX];
};
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct event events[EVENTS_MAX];
static int event_count;
static int events_taken;
static int connected;
static int expired;

static int failures;

static void report(const char *name, int good, int rc)
{
    if (good) {
        printf("ok %s\n", name);
    } else {
        printf("not ok %s: rc %d (%s)\n", name, rc, zerror(rc));
        failures++;
    }
    fflush(stdout);
}

static void watch(zhandle_t *zh, int type, int state, const char *path, void *context)
{
    (void)zh;
    (void)context;
    pthread_mutex_lock(&mutex);
    if (type == ZOO_SESSION_EVENT) {
        connected = state == ZOO_CONNECTED_STATE;
        expired |= state == ZOO_EXPIRED_SESSION_STATE;
    } else if (event_count < EVENTS_MAX) {
        events[event_count].type = type;
        snprintf(events[event_count].path, PATH_BYTES_MAX, "%s", path);
        event_count++;
    }
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
}

static struct timespec deadline(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_SECONDS_MAX;
    return until;
}

static int wait_for_flag(const int *flag)
{
    struct timespec until = deadline();
    pthread_mutex_lock(&mutex);
    while (!*flag && pthread_cond_timedwait(&changed, &mutex, &until) == 0) {
    }
    int seen = *flag;
    pthread_mutex_unlock(&mutex);
    return seen;
}

/* The next event must be this one. */
static int next_event_is(int type, const char *path)
{
    struct timespec until = deadline();
    pthread_mutex_lock(&mutex);
    while (events_taken == event_count &&
           pthread_cond_timedwait(&changed, &mutex, &until) == 0) {
    }
    int good = 0;
    if (events_taken < event_count) {
        const struct event *event = &events[events_taken++];
        good = event->type == type && strcmp(event->path, path) == 0;
        if (!good) {
            printf("# event %d at %s, not %d at %s\n", event->type, event->path, type, path);
        }
    }
    pthread_mutex_unlock(&mutex);
    return good;
}

static void join(char *out, const char *root, const char *name)
{
    snprintf(out, PATH_BYTES_MAX, "%s/%s", root, name);
}

static void nodes(zhandle_t *zh, const char *root)
{
    char path[PATH_BYTES_MAX], created[PATH_BYTES_MAX], data[64];
    int length = sizeof data;
    struct Stat stat;

    int rc = zoo_create(zh, root, "first", 5, &ZOO_OPEN_ACL_UNSAFE, 0, created, sizeof created);
    report("creates a node", rc == ZOK && strcmp(created, root) == 0, rc);
    rc = zoo_create(zh, root, "x", 1, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0);
    report("is told that a node exists", rc == ZNODEEXISTS, rc);
    rc = zoo_get(zh, root, 0, data, &length, &stat);
    report("reads data and Stat", rc == ZOK && length == 5 && memcmp(data, "first", 5) == 0 &&
           stat.version == 0 && stat.dataLength == 5 && stat.czxid == stat.mzxid, rc);
    rc = zoo_set2(zh, root, "second", 6, 0, &stat);
    report("sets data", rc == ZOK && stat.version == 1 && stat.mzxid > stat.czxid, rc);
    rc = zoo_set(zh, root, "third", 5, 0);
    report("is refused with an old version", rc == ZBADVERSION, rc);

    join(path, root, "absent");
    length = sizeof data;
    rc = zoo_get(zh, path, 0, data, &length, &stat);
    report("does not find what is not there", rc == ZNONODE, rc);
    /* Null data and empty data are two things. */
    join(path, root, "null");
    zoo_create(zh, path, NULL, -1, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0);
    length = sizeof data;
    rc = zoo_get(zh, path, 0, data, &length, &stat);
    report("reads null data", rc == ZOK && length == -1, rc);
    zoo_set(zh, path, "", 0, -1);
    length = sizeof data;
    rc = zoo_get(zh, path, 0, data, &length, &stat);
    report("reads empty data", rc == ZOK && length == 0, rc);
    rc = zoo_delete(zh, path, 7);
    report("does not delete another version", rc == ZBADVERSION, rc);
    rc = zoo_delete(zh, path, 1);
    report("deletes a node", rc == ZOK && zoo_exists(zh, path, 0, &stat) == ZNONODE, rc);
}

static void modes(zhandle_t *zh, const char *root)
{
    char path[PATH_BYTES_MAX], expected[PATH_BYTES_MAX + 10], created[PATH_BYTES_MAX];
    struct Stat stat;
    struct String_vector names;

    join(path, root, "m");
    zoo_create(zh, path, "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0);
    join(path, root, "m/q-");
    for (int i = 0; i < 3; i++) {
        snprintf(expected, sizeof expected, "%s%010d", path, i);
        int rc = zoo_create(zh, path, "", 0, &ZOO_OPEN_ACL_UNSAFE,
                            ZOO_PERSISTENT_SEQUENTIAL, created, sizeof created);
        report("numbers sequential nodes", rc == ZOK && strcmp(created, expected) == 0, rc);
    }
    join(path, root, "m/e");
    int rc = zoo_create2(zh, path, "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL, created,
                         sizeof created, &stat);
    report("owns its ephemeral node",
           rc == ZOK && stat.ephemeralOwner == zoo_client_id(zh)->client_id, rc);
    join(path, root, "m/e/x");
    rc = zoo_create(zh, path, "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0);
    report("puts nothing below an ephemeral node", rc == ZNOCHILDRENFOREPHEMERALS, rc);
    join(path, root, "m/c");
    rc = zoo_create(zh, path, "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_CONTAINER, NULL, 0);
    report("creates a container", rc == ZOK, rc);
    join(path, root, "m/t");
    rc = zoo_create_ttl(zh, path, "", 0, &ZOO_OPEN_ACL_UNSAFE,
                        ZOO_PERSISTENT_WITH_TTL, 60000, NULL, 0);
    report("creates a node with a time to live", rc == ZOK, rc);

    join(path, root, "m");
    rc = zoo_get_children2(zh, path, 0, &names, &stat);
    report("lists children", rc == ZOK && names.count == 6 && stat.numChildren == 6 &&
           stat.cversion == 6, rc);
    if (rc == ZOK) {
        deallocate_String_vector(&names);
    }
    rc = zoo_delete(zh, path, -1);
    report("does not delete a parent", rc == ZNOTEMPTY, rc);
}

static void watches(zhandle_t *zh, const char *root)
{
    char path[PATH_BYTES_MAX], child[PATH_BYTES_MAX], data[64];
    int length = sizeof data;
    struct Stat stat;
    struct String_vector names;

    join(path, root, "w");
    int rc = zoo_wexists(zh, path, watch, NULL, &stat);
    zoo_create(zh, path, "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0);
    report("is told of a creation",
           rc == ZNONODE && next_event_is(ZOO_CREATED_EVENT, path), rc);
    rc = zoo_wget(zh, path, watch, NULL, data, &length, &stat);
    zoo_set(zh, path, "x", 1, -1);
    report("is told of a data change", rc == ZOK && next_event_is(ZOO_CHANGED_EVENT, path), rc);
    rc = zoo_wget_children(zh, path, watch, NULL, &names);
    if (rc == ZOK) {
        deallocate_String_vector(&names);
    }
    join(child, root, "w/child");
    zoo_create(zh, child, "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0);
    report("is told of a new child", rc == ZOK && next_event_is(ZOO_CHILD_EVENT, path), rc);
    rc = zoo_wexists(zh, child, watch, NULL, &stat);
    zoo_delete(zh, child, -1);
    report("is told of a removal", rc == ZOK && next_event_is(ZOO_DELETED_EVENT, child), rc);
    rc = zoo_wexists(zh, path, watch, NULL, &stat);
    rc = rc == ZOK ? zoo_remove_watches(zh, path, ZWATCHTYPE_DATA, watch, NULL, 0) : rc;
    report("removes a watch", rc == ZOK, rc);
    rc = zoo_remove_watches(zh, path, ZWATCHTYPE_CHILD, watch, NULL, 0);
    report("is told that there is no watch", rc == ZNOWATCHER, rc);
}

static void transactions(zhandle_t *zh, const char *root)
{
    char a[PATH_BYTES_MAX], b[PATH_BYTES_MAX], made[PATH_BYTES_MAX];
    struct Stat stat;
    zoo_op_t ops[4];
    zoo_op_result_t results[4];

    join(a, root, "multi-a");
    join(b, root, "multi-b");
    zoo_create_op_init(&ops[0], a, "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, made, sizeof made);
    zoo_set_op_init(&ops[1], a, "x", 1, 0, &stat);
    zoo_check_op_init(&ops[2], a, 1);
    int rc = zoo_multi(zh, 3, ops, results);
    report("does a multi", rc == ZOK && strcmp(made, a) == 0 && stat.version == 1, rc);

    zoo_create_op_init(&ops[0], b, "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0);
    zoo_check_op_init(&ops[1], a, 0);
    zoo_delete_op_init(&ops[2], a, -1);
    rc = zoo_multi(zh, 3, ops, results);
    report("is told which part of a multi failed", rc == ZBADVERSION && results[0].err == ZOK &&
           results[1].err == ZBADVERSION && results[2].err == ZRUNTIMEINCONSISTENCY, rc);
    rc = zoo_exists(zh, b, 0, &stat);
    report("finds nothing of a failed multi", rc == ZNONODE, rc);
}

static void string_came(int rc, const char *value, const void *data)
{
    (void)value;
    pthread_mutex_lock(&mutex);
    *(int *)data = rc == ZOK ? 1 : rc;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
}

static void void_came(int rc, const void *data)
{
    string_came(rc, NULL, data);
}

static void access_lists(zhandle_t *zh, const char *root)
{
    char path[PATH_BYTES_MAX];
    struct Stat stat;
    struct ACL_vector acl;
    int answered = 0;

    int rc = zoo_add_auth(zh, "digest", "u:p", 3, void_came, &answered);
    report("logs in", rc == ZOK && wait_for_flag(&answered) == 1, rc);
    join(path, root, "mine");
    rc = zoo_create(zh, path, "", 0, &ZOO_CREATOR_ALL_ACL, 0, NULL, 0);
    int rc_get = zoo_get_acl(zh, path, &acl, &stat);
    report("guards a node", rc == ZOK && rc_get == ZOK && acl.count == 1 &&
           strcmp(acl.data[0].id.scheme, "digest") == 0, rc_get);
    if (rc_get == ZOK) {
        deallocate_ACL_vector(&acl);
    }
    answered = 0;
    rc = zoo_async(zh, root, string_came, &answered);
    report("syncs", rc == ZOK && wait_for_flag(&answered) == 1, rc);
}

/* Comes after the first session was closed. */
static void other_session(const char *host, const char *root)
{
    char path[PATH_BYTES_MAX], data[64];
    int length = sizeof data;
    struct Stat stat;

    zhandle_t *zh = zookeeper_init(host, watch, SESSION_TIMEOUT_MS, NULL, NULL, 0);
    join(path, root, "mine");
    int rc = zoo_get(zh, path, 0, data, &length, &stat);
    report("is kept from what another guards", rc == ZNOAUTH, rc);
    join(path, root, "m/e");
    rc = zoo_exists(zh, path, 0, &stat);
    report("loses its ephemeral node by closing its session", rc == ZNONODE, rc);
    zookeeper_close(zh);
}

/* The wrong password is refused (the library says "expired"), and the session lives on. */
static void failed_takeover(zhandle_t *zh, const char *host, const char *root)
{
    struct Stat stat;
    clientid_t session = *zoo_client_id(zh);

    session.passwd[0] = (char)(session.passwd[0] + 1);
    zhandle_t *thief = zookeeper_init(host, watch, SESSION_TIMEOUT_MS, &session, NULL, 0);
    report("does not take a session over without its password", wait_for_flag(&expired), ZOK);
    zookeeper_close(thief);
    /* ZooKeeper has disconnected the owner too, who may need a moment to come back. */
    int rc = zoo_exists(zh, root, 0, &stat);
    for (int i = 0; i < WAIT_SECONDS_MAX * 10 && rc == ZCONNECTIONLOSS; i++) {
        usleep(100000);
        rc = zoo_exists(zh, root, 0, &stat);
    }
    report("keeps its session", rc == ZOK && zoo_client_id(zh)->client_id == session.client_id, rc);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s HOST:PORT ROOT\n", argv[0]);
        return 2;
    }
    const char *host = argv[1], *root = argv[2];
    zoo_set_debug_level(ZOO_LOG_LEVEL_ERROR);
    zhandle_t *zh = zookeeper_init(host, watch, SESSION_TIMEOUT_MS, NULL, NULL, 0);
    report("connects", zh != NULL && wait_for_flag(&connected), ZOK);
    nodes(zh, root);
    modes(zh, root);
    watches(zh, root);
    transactions(zh, root);
    access_lists(zh, root);

    failed_takeover(zh, host, root);
    zookeeper_close(zh);
    other_session(host, root);
    printf("done\n");
    return failures == 0 ? 0 : 1;
}
