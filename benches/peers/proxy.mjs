// A TCP proxy of Node.js 18.3 or newer, as its documentation advises: `pipe`, which keeps back-pressure, between sockets
// that may be half open (`allowHalfOpen`), without Nagle's algorithm. One process, one event loop.
//
//     node proxy.mjs IP PORT BACKEND_IP BACKEND_PORT...
import net from 'node:net';

const [ip, port, backEndIp, ...backEndPorts] = process.argv.slice(2);
if (backEndPorts.length === 0) {
  console.error('usage: node proxy.mjs IP PORT BACKEND_IP BACKEND_PORT...');
  process.exit(2);
}
const ports = backEndPorts.map(Number);
let next = 0;

const server = net.createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
  const backEnd = net.connect({
    host: backEndIp, port: ports[next++ % ports.length], allowHalfOpen: true, noDelay: true,
  });
  join(client, backEnd);
  join(backEnd, client);
});
server.on('error', (error) => {
  console.error(String(error));
  process.exit(1);
});
server.listen({ host: ip, port: Number(port), backlog: 4096 });

// Passes on what `from` sends, and its end, with `pipe`; and its failure as a reset, so that a part never looks whole.
function join(from, to) {
  from.pipe(to);
  from.on('error', () => to.resetAndDestroy());
}
