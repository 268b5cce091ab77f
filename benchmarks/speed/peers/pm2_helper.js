// Runs with PM2's library: takes orders by line, and asks the daemon over its sockets.
const pm2 = require('pm2');
const readline = require('readline');
const { promisify } = require('util');

const call = (name, ...given) => promisify(pm2[name].bind(pm2))(...given);

// Ask for all statuses; how long each call took in seconds, and the bytes of an answer.
async function load(clients, seconds) {
  const took = [];
  let size = 0;
  const end = performance.now() + seconds * 1000;
  const client = async () => {
    for (let begun = performance.now(); begun < end; begun = performance.now()) {
      const list = await call('list');
      took.push((performance.now() - begun) / 1000);
      size = size || JSON.stringify(list).length;
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  return { took, size };
}

const verbs = {
  connect: () => call('connect'),
  start: (apps) => call('start', { apps }).then(() => null),
  load,
  stop: () => call('stop', 'all').then(() => null),
  kill: () => call('killDaemon').then(() => null),
};

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [verb, ...given] = JSON.parse(line);
    try {
      const result = await verbs[verb](...given);
      process.stdout.write(JSON.stringify({ result: result === undefined ? null : result }) + '\n');
    } catch (error) {
      process.stdout.write(JSON.stringify({ error: String(error.message || error) }) + '\n');
    }
  }
  process.exit(0);
}
main();
