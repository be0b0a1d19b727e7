// The service behind /admin: its own program and port, reached through the gate's one address.
const http = require('node:http');

const server = http.createServer((request, response) => {
  response.setHeader('content-type', 'text/html; charset=utf-8');
  if (request.url === '/healthz') return response.end('ok\n');
  response.end(`<h1>admin</h1><p>request ${request.headers['x-request-id']}</p>\n`);
});
server.on('error', (error) => {
  console.error(`127.0.0.1:3102: ${error.message}`);
  process.exit(1);
});
server.listen(3102, '127.0.0.1', () => console.log('admin listening on 127.0.0.1:3102'));
