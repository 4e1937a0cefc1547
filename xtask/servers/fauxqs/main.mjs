// Serves fauxqs on one loopback port: node main.mjs PORT
//
// The package's own command listens on every network interface and cannot be told otherwise, so
// this takes the application it builds and listens itself.
import { buildApp } from "fauxqs";

const port = Number(process.argv[2]);
if (!Number.isInteger(port) || port < 1 || port > 65535) {
  console.error("usage: node main.mjs PORT");
  process.exit(2);
}

const app = buildApp({ logger: false });
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, () => app.close().then(() => process.exit(0)));
}
console.log(`listening on ${await app.listen({ host: "127.0.0.1", port })}`);
