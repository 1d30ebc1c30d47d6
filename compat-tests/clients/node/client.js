// Uses a server through node-zookeeper-client: node client.js HOST:PORT
//
// Prints a line for each step, "ok NAME" or "not ok NAME: what was seen", and at the end "done".
'use strict';

const assert = require('assert');
const zookeeper = require('node-zookeeper-client');

const WAIT_MS_MAX = 20000;
const { CreateMode, Exception, Event, ACL, Id, Permission } = zookeeper;

let failures = 0;

async function step(name, body) {
  try {
    await within(body(), name);
    console.log(`ok ${name}`);
  } catch (error) {
    failures += 1;
    console.log(`not ok ${name}: ${String(error && error.message).split('\n')[0]}`);
  }
}

function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${WAIT_MS_MAX} ms`)), WAIT_MS_MAX);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// A call of the client as a promise; resolves to the array of what the callback gets after the error.
function call(client, method, ...args) {
  return new Promise((resolve, reject) => {
    client[method](...args, (error, ...values) => (error ? reject(error) : resolve(values)));
  });
}

function connect(address) {
  const client = zookeeper.createClient(address, { sessionTimeout: 10000, retries: 1 });
  const connected = new Promise((resolve) => client.once('connected', resolve));
  client.connect();
  return within(connected, 'connect').then(() => client);
}

async function refused(code, promise) {
  let seen = 'nothing';
  try {
    await promise;
  } catch (error) {
    seen = error.getCode ? error.getCode() : error;
  }
  assert.strictEqual(seen, code);
}

// A watcher and the promise of what it is told.
function watcher() {
  let tell;
  const told = new Promise((resolve) => { tell = resolve; });
  return { watch: (event) => tell([event.getType(), event.getPath()]), told };
}

async function nodes(client, root) {
  await step('creates, reads and sets', async () => {
    assert.deepStrictEqual(await call(client, 'create', root, Buffer.from('one')), [root]);
    const [data, stat] = await call(client, 'getData', root);
    assert.strictEqual(data.toString(), 'one');
    assert.strictEqual(stat.version, 0);
    const [changed] = await call(client, 'setData', root, Buffer.from('second'), 0);
    assert.strictEqual(changed.version, 1);
    assert.strictEqual(changed.dataLength, 6);
  });
  await step('is told what is wrong', async () => {
    await refused(Exception.NODE_EXISTS, call(client, 'create', root));
    await refused(Exception.BAD_VERSION, call(client, 'setData', root, Buffer.from('x'), 0));
    await refused(Exception.NO_NODE, call(client, 'getData', `${root}/none`));
    await refused(Exception.NO_NODE, call(client, 'create', `${root}/none/x`));
  });
  await step('numbers sequential nodes', async () => {
    for (const suffix of ['0000000000', '0000000001']) {
      const [path] = await call(client, 'create', `${root}/q-`, CreateMode.PERSISTENT_SEQUENTIAL);
      assert.strictEqual(path, `${root}/q-${suffix}`);
    }
  });
  await step('makes parents on the way', async () => {
    await call(client, 'mkdirp', `${root}/a/b/c`);
    const [children, stat] = await call(client, 'getChildren', `${root}/a`);
    assert.deepStrictEqual(children, ['b']);
    assert.strictEqual(stat.numChildren, 1);
  });
  await step('does not delete a parent', async () => {
    await refused(Exception.NOT_EMPTY, call(client, 'remove', root, -1));
  });
}

async function watches(client, root) {
  const path = `${root}/w`;
  await step('is told of a creation', async () => {
    const { watch, told } = watcher();
    const [stat] = await call(client, 'exists', path, watch);
    assert.strictEqual(stat, null);
    await call(client, 'create', path);
    assert.deepStrictEqual(await told, [Event.NODE_CREATED, path]);
  });
  await step('is told of a data change', async () => {
    const { watch, told } = watcher();
    await call(client, 'getData', path, watch);
    await call(client, 'setData', path, Buffer.from('x'), -1);
    assert.deepStrictEqual(await told, [Event.NODE_DATA_CHANGED, path]);
  });
  await step('is told of a new child', async () => {
    const { watch, told } = watcher();
    await call(client, 'getChildren', path, watch);
    await call(client, 'create', `${path}/child`);
    assert.deepStrictEqual(await told, [Event.NODE_CHILDREN_CHANGED, path]);
  });
  await step('is told of a removal', async () => {
    const { watch, told } = watcher();
    await call(client, 'exists', `${path}/child`, watch);
    await call(client, 'remove', `${path}/child`, -1);
    assert.deepStrictEqual(await told, [Event.NODE_DELETED, `${path}/child`]);
  });
}

async function transactions(client, root) {
  await step('does a transaction', async () => {
    const all = client.transaction()
      .create(`${root}/t`)
      .setData(`${root}/t`, Buffer.from('x'), 0)
      .check(`${root}/t`, 1)
      .create(`${root}/u`)
      .remove(`${root}/u`, 0);
    const [results] = await call(all, 'commit');
    assert.strictEqual(results.length, 5);
    assert.strictEqual(results[0].path, `${root}/t`);
  });
  await step('finds nothing of a failed transaction', async () => {
    const all = client.transaction().create(`${root}/v`).check(`${root}/t`, 7);
    await refused(Exception.BAD_VERSION, call(all, 'commit'));
    assert.deepStrictEqual(await call(client, 'exists', `${root}/v`), [null]);
  });
}

async function accessLists(client, other, root) {
  await step('guards a node', async () => {
    const path = `${root}/secret`;
    client.addAuthInfo('digest', Buffer.from('u:p'));
    await call(client, 'create', path, Buffer.from('x'), ACL.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
    const [acls] = await call(client, 'getACL', path);
    assert.strictEqual(acls[0].id.scheme, 'digest');
    await refused(Exception.NO_AUTH, call(other, 'getData', path));
    const open = [new ACL(Permission.ALL, new Id('world', 'anyone'))];
    await call(client, 'setACL', path, open, -1);
    assert.strictEqual(String((await call(other, 'getData', path))[0]), 'x');
  });
}

async function sessions(client, other, root) {
  await step('has many requests in flight', async () => {
    const paths = Array.from({ length: 1000 }, (_, i) => `${root}/many-${i}`);
    const made = await Promise.all(paths.map((path) => call(client, 'create', path)));
    assert.deepStrictEqual(made.map(([path]) => path), paths);
    await Promise.all(paths.map((path) => call(client, 'remove', path, -1)));
  });
  await step('loses its ephemeral node with its session', async () => {
    const path = `${root}/e`;
    await call(client, 'create', path, CreateMode.EPHEMERAL);
    const [stat] = await call(other, 'exists', path);
    assert.ok(stat.ephemeralOwner.equals(client.getSessionId()));
    const { watch, told } = watcher();
    await call(other, 'exists', path, watch);
    client.close();
    assert.deepStrictEqual(await told, [Event.NODE_DELETED, path]);
  });
  await step('removes nodes', async () => {
    for (const path of [`${root}/a/b/c`, `${root}/a/b`, `${root}/a`]) {
      await call(other, 'remove', path, -1);
      assert.deepStrictEqual(await call(other, 'exists', path), [null]);
    }
  });
}

async function main() {
  const address = process.argv[2];
  const root = `/node-${process.pid}-${Date.now()}`;
  const client = await connect(address);
  const other = await connect(address);
  console.log('ok connects');
  await nodes(client, root);
  await watches(client, root);
  await transactions(client, root);
  await accessLists(client, other, root);
  await sessions(client, other, root);
  other.close();
  console.log('done');
  process.exit(failures === 0 ? 0 : 1);
}

main().catch((error) => {
  console.log(`not ok connects: ${error.message}`);
  process.exit(1);
});
