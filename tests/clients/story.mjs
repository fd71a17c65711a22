// The JavaScript client @kubernetes/client-node, unmodified: deploy, informer, patch, logs, conflict, clean up.
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
