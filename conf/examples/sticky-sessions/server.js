// A server that keeps its sessions in its own memory: it knows only the visitors that it has greeted itself.
// `node server.js 3201` answers with its port and how often the visitor has been here.
const http = require('node:http');
const { randomUUID } = require('node:crypto');

const port = Number(process.argv[2]);
if (!Number.isInteger(port) || port < 1 || port > 65535) {
  console.error('usage: node server.js PORT');
  process.exit(64);
}

const visits = new Map();

const server = http.createServer((request, response) => {
  response.setHeader('content-type', 'text/plain');
  if (request.url === '/healthz') return response.end('ok\n');
  const brought = /(?:^|; )sid=([^;]*)/.exec(request.headers.cookie ?? '')?.[1];
  const sid = visits.has(brought) ? brought : randomUUID();
  if (sid !== brought) response.setHeader('set-cookie', `sid=${sid}; Path=/; HttpOnly`);
  visits.set(sid, (visits.get(sid) ?? 0) + 1);
  response.end(`port ${port}: visit ${visits.get(sid)}\n`);
});
server.on('error', (error) => {
  console.error(`127.0.0.1:${port}: ${error.message}`);
  process.exit(1);
});
server.listen(port, '127.0.0.1', () => console.log(`listening on 127.0.0.1:${port}`));
