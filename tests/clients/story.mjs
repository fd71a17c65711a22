// The JavaScript client @kubernetes/client-node, unmodified: discover, deploy, watch, run a program, logs, patch, informer, a
// kind of one's own, apply on the server, a lease, conflict, clean up.
// Run with KUBECONFIG naming a cluster. Exits non-zero with a stack where something is not as it should be.

import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import * as k8s from '@kubernetes/client-node';

const namespace = 'javascript-story';
const patience = 60_000;

const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const apps = config.makeApiClient(k8s.AppsV1Api);
const objects = k8s.KubernetesObjectApi.makeApiClient(config);

/** Waits for an object of a watched path to be as wanted. */
function until(path, wanted) {
  return new Promise((resolve, reject) => {
    let controller;
    const late = setTimeout(() => reject(new Error(`${path} did not get there`)), patience);
    const done = (error, object) => {
      clearTimeout(late);
      controller?.abort();
      error ? reject(error) : resolve(object);
    };
    new k8s.Watch(config)
      .watch(path, {}, (type, object) => wanted(type, object) && done(null, object), (error) => error && error.name !== 'AbortError' && done(error))
      .then((started) => { controller = started; }, reject);
  });
}

/** A document of the server, parsed. */
async function read(path) {
  const request = await config.applyToFetchOptions({ method: 'GET' });
  const { default: fetch } = await import('node-fetch');
  const answer = await fetch(config.getCurrentCluster().server + path, request);
  assert.equal(answer.status, 200, path);
  return answer.json();
}

const { groups } = await read('/apis');
for (const version of ['/api/v1', ...groups.flatMap((group) => group.versions.map((v) => `/apis/${v.groupVersion}`))]) {
  assert.ok((await read(version)).resources.length > 0, version);
}
const documents = (await read('/openapi/v3')).paths;
assert.ok((await read(documents['api/v1'].serverRelativeURL)).components.schemas['io.k8s.api.core.v1.Pod']);
assert.ok((await read('/openapi/v2')).definitions['io.k8s.api.core.v1.Pod']);
assert.equal((await config.makeApiClient(k8s.VersionApi).getCode()).major, '1');

await core.createNamespace({ body: { metadata: { name: namespace } } });
await objects.create({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'hello', namespace },
  spec: {
    selector: { matchLabels: { app: 'hello' } },
    template: {
      metadata: { labels: { app: 'hello' } },
      spec: { containers: [{ name: 'hello', image: 'hello' }] },
    },
  },
});
await until(`/apis/apps/v1/namespaces/${namespace}/deployments`, (_, d) => d.status?.availableReplicas === 1);

const pods = await core.listNamespacedPod({ namespace, labelSelector: 'app=hello' });
assert.equal(pods.items.length, 1);
const pod = pods.items[0].metadata.name;
const said = new PassThrough();
const following = await new k8s.Log(config).log(namespace, pod, 'hello', said, { follow: true });
const line = await new Promise((resolve) => said.once('data', (bytes) => resolve(bytes.toString())));
assert.match(line, /hello: listening on/);
following.abort();

// A program with input, output and an exit code.
const [out, wrong, input] = [new PassThrough(), new PassThrough(), new PassThrough()];
const ended = new Promise((resolve) => {
  const command = ['sh', '-c', 'head -n 1; cat /nowhere; exit 3'];
  new k8s.Exec(config).exec(namespace, pod, 'hello', command, out, wrong, input, false, resolve);
});
input.write('a line\n');
const status = await ended;
assert.equal(status.details.causes.find((cause) => cause.reason === 'ExitCode').message, '3');
assert.equal(out.read().toString(), 'a line\n');
assert.match(wrong.read().toString(), /No such file or directory/);

// An informer tells of what comes and goes.
const maps = k8s.makeInformer(config, `/api/v1/namespaces/${namespace}/configmaps`, () => core.listNamespacedConfigMap({ namespace }));
const heard = [];
const hears = (event, name) => new Promise((resolve) => {
  maps.on(event, (object) => { if (object.metadata.name === name) { heard.push(event); resolve(); } });
});
const [comes, goes] = [hears('add', 'passing'), hears('delete', 'passing')];
await maps.start();
await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'passing' } } });
await comes;
await core.deleteNamespacedConfigMap({ namespace, name: 'passing' });
await goes;
await maps.stop();
assert.deepEqual(heard, ['add', 'delete']);

// A kind of one's own.
const [group, version, plural] = ['javascript.example.com', 'v1', 'kayaks'];
await config.makeApiClient(k8s.ApiextensionsV1Api).createCustomResourceDefinition({
  body: {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${plural}.${group}` },
    spec: {
      group,
      names: { kind: 'Kayak', plural },
      scope: 'Namespaced',
      versions: [{
        name: version,
        served: true,
        storage: true,
        schema: { openAPIV3Schema: { type: 'object', properties: { spec: { type: 'object', properties: { crew: { type: 'integer' } } } } } },
      }],
    },
  },
});
await until('/apis/apiextensions.k8s.io/v1/customresourcedefinitions', (_, definition) =>
  definition.metadata.name === `${plural}.${group}` && definition.status?.conditions?.some((c) => c.type === 'Established' && c.status === 'True'));
const custom = config.makeApiClient(k8s.CustomObjectsApi);
const kayak = (crew) => ({ apiVersion: `${group}/${version}`, kind: 'Kayak', metadata: { name: 'one', namespace }, spec: { crew } });
await custom.createNamespacedCustomObject({ group, version, namespace, plural, body: kayak(1) });
assert.equal((await custom.listNamespacedCustomObject({ group, version, namespace, plural })).items[0].spec.crew, 1);

// Two who apply do not agree, until one insists.
const apply = (object, manager, force) => objects.patch(object, undefined, undefined, manager, force, k8s.PatchStrategy.ServerSideApply);
const applied = (crew) => ({ ...kayak(crew), metadata: { name: 'two', namespace } });
await apply(applied(1), 'ours');
await assert.rejects(apply(applied(2), 'theirs'), (error) =>
  error.code === 409 && JSON.parse(error.body).message === 'Apply failed with 1 conflict: conflict with "ours": .spec.crew');
assert.equal((await apply(applied(2), 'theirs', true)).spec.crew, 2);
await config.makeApiClient(k8s.ApiextensionsV1Api).deleteCustomResourceDefinition({ name: `${plural}.${group}` });

// A lease has one holder: who renews an older state of it is refused.
const leases = config.makeApiClient(k8s.CoordinationV1Api);
const lease = await leases.createNamespacedLease({
  namespace,
  body: { metadata: { name: 'leader' }, spec: { holderIdentity: 'first', leaseDurationSeconds: 15, renewTime: new k8s.V1MicroTime() } },
});
const taken = { ...lease, spec: { ...lease.spec, holderIdentity: 'second' } };
assert.equal((await leases.replaceNamespacedLease({ namespace, name: 'leader', body: taken })).spec.holderIdentity, 'second');
await assert.rejects(leases.replaceNamespacedLease({ namespace, name: 'leader', body: lease }), (error) => error.code === 409);

const map = await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'settings' }, data: { a: '1' } } });
const patched = await core.patchNamespacedConfigMap(
  { name: 'settings', namespace, body: { data: { b: '2' } } },
  k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch),
);
assert.deepEqual(patched.data, { a: '1', b: '2' });
await assert.rejects(
  core.replaceNamespacedConfigMap({ name: 'settings', namespace, body: map }),
  (error) => error.code === 409,
);
await assert.rejects(core.readNamespacedConfigMap({ name: 'nobody', namespace }), (error) => error.code === 404);

await core.deleteNamespace({ name: namespace });
await until('/api/v1/namespaces', (type, object) => type === 'DELETED' && object.metadata.name === namespace);
console.log('javascript: ok');
process.exit(0);
