// Serves fauxqs on one loopback port: node main.mjs PORT
//
// The package's own command listens on every network interface and puts a name into queue URLs
// (sqs.us-east-1.localhost) that many systems do not resolve; neither can be told otherwise. So
// this takes the application it builds, with a store that knows no such name: queue URLs then
// carry the address of the request. The store is not among the package's exports, hence the path.
import { buildApp } from "fauxqs";
import { SqsStore } from "./node_modules/fauxqs/dist/sqs/sqsStore.js";

const port = Number(process.argv[2]);
if (!Number.isInteger(port) || port < 1 || port > 65535) {
  console.error("usage: node main.mjs PORT");
  process.exit(2);
}

const sqsStore = new SqsStore();
sqsStore.host = undefined;
const app = buildApp({ logger: false, stores: { sqsStore } });
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, () => app.close().then(() => process.exit(0)));
}
console.log(`listening on ${await app.listen({ host: "127.0.0.1", port })}`);
