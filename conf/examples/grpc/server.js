// A gRPC server without any package: HTTP/2 in plaintext, messages with one string in them (protobuf, field 1).
// `node server.js 3301` greets by name, never answers /greet.Greeter/Sleep, and tells health checks that it serves.
const http2 = require('node:http2');

const port = Number(process.argv[2]);
if (!Number.isInteger(port) || port < 1 || port > 65535) {
  console.error('usage: node server.js PORT');
  process.exit(64);
}

// Each message has five bytes in front of it: not compressed, and its length.
const framed = (message) => {
  const front = Buffer.alloc(5);
  front.writeUInt32BE(message.length, 1);
  return Buffer.concat([front, message]);
};
const text = (words) => framed(Buffer.concat([Buffer.from([0x0a, Buffer.byteLength(words)]), Buffer.from(words)]));
const serving = framed(Buffer.from([0x08, 0x01]));

const methods = {
  '/greet.Greeter/Hello': (name) => text(`Hello ${name} from port ${port}\n`),
  '/greet.Greeter/Sleep': () => null,
  '/grpc.health.v1.Health/Check': () => serving,
};

const server = http2.createServer();
server.on('stream', (stream, headers) => {
  const pieces = [];
  stream.on('error', () => {}); // a client that cancels
  stream.on('data', (piece) => pieces.push(piece));
  stream.on('end', () => {
    const method = methods[headers[':path']];
    const head = { ':status': 200, 'content-type': 'application/grpc' };
    if (!method) return stream.respond({ ...head, 'grpc-status': '12' }, { endStream: true });
    const answer = method(Buffer.concat(pieces).subarray(7).toString());
    if (!answer) return;
    stream.respond(head, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.end(answer);
  });
});
server.on('error', (error) => {
  console.error(`127.0.0.1:${port}: ${error.message}`);
  process.exit(1);
});
server.listen(port, '127.0.0.1', () => console.log(`listening on 127.0.0.1:${port}`));
