// The service behind /api. It is written as if nobody stood before it: plain HTTP, one port, JSON.
const http = require('node:http');

const items = ['weir', 'gate', 'sluice'];

const server = http.createServer((request, response) => {
  response.setHeader('content-type', 'application/json');
  if (request.url === '/healthz') return response.end('{"status":"ok"}\n');
  response.end(
    JSON.stringify({
      service: 'api',
      path: request.url,
      items,
      // What the gate says of the client: its address, and that it came over TLS.
      client: request.headers['x-forwarded-for'],
      proto: request.headers['x-forwarded-proto'],
    }) + '\n',
  );
});
server.on('error', (error) => {
  console.error(`127.0.0.1:3101: ${error.message}`);
  process.exit(1);
});
server.listen(3101, '127.0.0.1', () => console.log('api listening on 127.0.0.1:3101'));
