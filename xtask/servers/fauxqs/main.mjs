// Serves fauxqs on one loopback port: node main.mjs PORT [FOLDER]
//
// With a folder it keeps queues and messages there, and has them again when it is started again.
//
// The package's own command listens on every network interface and puts a name into queue URLs
// (sqs.us-east-1.localhost) that many systems do not resolve; neither can be told otherwise. So
// this takes the application it builds, with a store that knows no such name: queue URLs then
// carry the address of the request. Neither the store nor what keeps it is among the package's
// exports, hence the paths.
import { buildApp } from "fauxqs";
import { PersistenceManager } from "./node_modules/fauxqs/dist/persistence.js";
import { SqsStore } from "./node_modules/fauxqs/dist/sqs/sqsStore.js";

const port = Number(process.argv[2]);
const folder = process.argv[3];
if (!Number.isInteger(port) || port < 1 || port > 65535) {
  console.error("usage: node main.mjs PORT [FOLDER]");
  process.exit(2);
}

const sqsStore = new SqsStore();
sqsStore.host = undefined;
if (folder !== undefined) {
  const kept = new PersistenceManager(folder);
  // What a process that is killed has written is there; only a machine that fails would lose it.
  kept.db.exec("PRAGMA synchronous = OFF");
  // The package's own writes no receive count, which the table refuses: a message whose visibility
  // is set to 0 would be gone.
  const ready = kept.db.prepare(
    "UPDATE sqs_messages SET receipt_handle = NULL, visibility_deadline = NULL WHERE message_id = ?",
  );
  kept.updateMessageReady = (id) => ready.run(id);
  // Before the store knows of it, or reading would write everything again.
  kept.loadSqsQueues(sqsStore);
  sqsStore.persistence = kept;
  for (const queue of sqsStore.allQueues()) {
    queue.persistence = kept;
  }
  // It belongs to the test that started it, and ends with it, also when that is killed.
  const owner = process.ppid;
  setInterval(() => process.ppid === owner || process.exit(0), 1000).unref();
}
const app = buildApp({ logger: false, stores: { sqsStore } });
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, () => app.close().then(() => process.exit(0)));
}
console.log(`listening on ${await app.listen({ host: "127.0.0.1", port })}`);
