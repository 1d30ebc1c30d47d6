/*
 * What an application does through the C client: creates, reads, watches, lists, deletes, and a
 * little more. One line per check; the last line is `N passed, N failed, N skipped`.
 */
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zookeeper/zookeeper.h>

enum { SESSION_TIMEOUT_MS = 10000, DEADLINE_S = 60, EVENTS_MAX = 64, PATH_MAX_BYTES = 512 };

struct event {
    int type;
    char path[PATH_MAX_BYTES];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int connected;
static struct event events[EVENTS_MAX];
static int event_count;
static int passed, failed;

static void check(int ok, const char *what, ...)
{
    va_list args;
    va_start(args, what);
    printf(ok ? "ok     " : "FAILED ");
    vprintf(what, args);
    printf("\n");
    va_end(args);
    if (ok)
        passed++;
    else
        failed++;
}

static void on_event(zhandle_t *handle, int type, int state, const char *path, void *context)
{
    (void)handle;
    (void)context;
    pthread_mutex_lock(&lock);
    if (type == ZOO_SESSION_EVENT) {
        connected = state == ZOO_CONNECTED_STATE;
    } else if (event_count < EVENTS_MAX) {
        events[event_count].type = type;
        snprintf(events[event_count].path, PATH_MAX_BYTES, "%s", path);
        event_count++;
    }
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static int is_connected(const void *nothing)
{
    (void)nothing;
    return connected;
}

static int has_event(const void *wanted)
{
    const struct event *want = wanted;
    for (int i = 0; i < event_count; i++)
        if (events[i].type == want->type && strcmp(events[i].path, want->path) == 0)
            return 1;
    return 0;
}

static int wait_for(int (*condition)(const void *), const void *argument)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += DEADLINE_S;
    pthread_mutex_lock(&lock);
    int in_time = 1;
    while (!condition(argument) && in_time)
        in_time = pthread_cond_timedwait(&changed, &lock, &until) == 0;
    int result = condition(argument);
    pthread_mutex_unlock(&lock);
    return result;
}

static int got_event(int type, const char *path)
{
    struct event wanted = {.type = type};
    snprintf(wanted.path, PATH_MAX_BYTES, "%s", path);
    return wait_for(has_event, &wanted);
}

static void nodes(zhandle_t *zh, const char *root)
{
    char path[PATH_MAX_BYTES], made[PATH_MAX_BYTES], data[64];
    struct Stat stat;
    struct String_vector names;
    int length = sizeof data;

    snprintf(path, sizeof path, "%s/a", root);
    int rc = zoo_create(zh, path, "one", 3, &ZOO_OPEN_ACL_UNSAFE, 0, made, sizeof made);
    check(rc == ZOK && strcmp(made, path) == 0, "create: %s", zerror(rc));
    rc = zoo_create(zh, path, "one", 3, &ZOO_OPEN_ACL_UNSAFE, 0, made, sizeof made);
    check(rc == ZNODEEXISTS, "create again: %s", zerror(rc));

    rc = zoo_get(zh, path, 1, data, &length, &stat);
    check(rc == ZOK && length == 3 && memcmp(data, "one", 3) == 0, "get: %s", zerror(rc));
    rc = zoo_set2(zh, path, "two", 3, 0, &stat);
    check(rc == ZOK && stat.version == 1, "set: %s, version %d", zerror(rc), stat.version);
    check(got_event(ZOO_CHANGED_EVENT, path), "data watch fires");
    rc = zoo_set(zh, path, "no", 2, 7);
    check(rc == ZBADVERSION, "set with a wrong version: %s", zerror(rc));

    rc = zoo_get_children(zh, root, 1, &names);
    check(rc == ZOK && names.count == 1 && strcmp(names.data[0], "a") == 0, "list: %s", zerror(rc));
    deallocate_String_vector(&names);
    snprintf(path, sizeof path, "%s/s-", root);
    rc = zoo_create(zh, path, NULL, -1, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL | ZOO_SEQUENCE, made,
                    sizeof made);
    check(rc == ZOK && strstr(made, "/s-0000000001") != NULL, "sequential: %s", made);
    check(got_event(ZOO_CHILD_EVENT, root), "child watch fires");
    rc = zoo_exists(zh, made, 1, &stat);
    check(rc == ZOK && stat.ephemeralOwner == zoo_client_id(zh)->client_id, "owner: %s", zerror(rc));
    rc = zoo_delete(zh, made, -1);
    check(rc == ZOK, "delete: %s", zerror(rc));
    check(got_event(ZOO_DELETED_EVENT, made), "exists watch fires on deletion");
    rc = zoo_exists(zh, made, 0, &stat);
    check(rc == ZNONODE, "exists after delete: %s", zerror(rc));
}

static void multi(zhandle_t *zh, const char *root)
{
    char a[PATH_MAX_BYTES], b[PATH_MAX_BYTES], made[PATH_MAX_BYTES];
    zoo_op_t ops[3];
    zoo_op_result_t results[3];

    snprintf(a, sizeof a, "%s/a", root);
    snprintf(b, sizeof b, "%s/b", root);
    zoo_create_op_init(&ops[0], b, "x", 1, &ZOO_OPEN_ACL_UNSAFE, 0, made, sizeof made);
    zoo_check_op_init(&ops[1], a, 99);
    zoo_delete_op_init(&ops[2], a, -1);
    int rc = zoo_multi(zh, 3, ops, results);
    check(rc == ZBADVERSION, "failed multi: %s", zerror(rc));
    check(results[0].err == 0 && results[1].err == ZBADVERSION &&
              results[2].err == ZRUNTIMEINCONSISTENCY,
          "its results: %d %d %d", results[0].err, results[1].err, results[2].err);
    zoo_check_op_init(&ops[1], a, 1);
    rc = zoo_multi(zh, 3, ops, results);
    check(rc == ZOK && strcmp(made, b) == 0, "multi: %s", zerror(rc));
    check(zoo_exists(zh, a, 0, NULL) == ZNONODE, "multi has deleted");
    zoo_delete(zh, b, -1);
}

static void access_lists(zhandle_t *zh, const char *address, const char *root)
{
    char path[PATH_MAX_BYTES];
    struct ACL_vector list;
    struct Stat stat;
    char data[8];
    int length = sizeof data;

    snprintf(path, sizeof path, "%s/locked", root);
    int rc = zoo_add_auth(zh, "digest", "user:secret", 11, NULL, NULL);
    check(rc == ZOK, "add auth: %s", zerror(rc));
    rc = zoo_create(zh, path, "x", 1, &ZOO_CREATOR_ALL_ACL, 0, NULL, 0);
    check(rc == ZOK, "create with the creator's list: %s", zerror(rc));
    rc = zoo_get_acl(zh, path, &list, &stat);
    check(rc == ZOK && list.count == 1 && strcmp(list.data[0].id.scheme, "digest") == 0,
          "get ACL: %s", zerror(rc));
    deallocate_ACL_vector(&list);

    zhandle_t *stranger = zookeeper_init(address, NULL, SESSION_TIMEOUT_MS, NULL, NULL, 0);
    rc = zoo_get(stranger, path, 0, data, &length, &stat);
    check(rc == ZNOAUTH, "a stranger reads: %s", zerror(rc));
    zookeeper_close(stranger);
    check(zoo_delete(zh, path, -1) == ZOK, "the owner deletes");
}

static void ephemerals(zhandle_t *zh, const char *address, const char *root)
{
    char path[PATH_MAX_BYTES];
    struct Stat stat;

    snprintf(path, sizeof path, "%s/e", root);
    zhandle_t *other = zookeeper_init(address, NULL, SESSION_TIMEOUT_MS, NULL, NULL, 0);
    int rc = zoo_create(other, path, NULL, -1, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL, NULL, 0);
    check(rc == ZOK, "ephemeral of another session: %s", zerror(rc));
    rc = zoo_exists(zh, path, 1, &stat);
    check(rc == ZOK, "it is there: %s", zerror(rc));
    zookeeper_close(other);
    check(got_event(ZOO_DELETED_EVENT, path), "it goes with its session");
}

int main(int argc, char **argv)
{
    char root[PATH_MAX_BYTES];
    if (argc != 2) {
        fprintf(stderr, "usage: smoke host:port\n");
        return 2;
    }
    zoo_set_debug_level(ZOO_LOG_LEVEL_ERROR);
    zhandle_t *zh = zookeeper_init(argv[1], on_event, SESSION_TIMEOUT_MS, NULL, NULL, 0);
    check(zh != NULL && wait_for(is_connected, NULL), "connect");
    snprintf(root, sizeof root, "/c-client-%ld-%d", (long)time(NULL), (int)getpid());
    int rc = zoo_create(zh, root, NULL, -1, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0);
    check(rc == ZOK, "create %s: %s", root, zerror(rc));
    nodes(zh, root);
    multi(zh, root);
    access_lists(zh, argv[1], root);
    ephemerals(zh, argv[1], root);
    check(zoo_delete(zh, root, -1) == ZOK, "delete %s", root);
    check(zookeeper_close(zh) == ZOK, "close");
    printf("%d passed, %d failed, 0 skipped\n", passed, failed);
    return failed != 0;
}
