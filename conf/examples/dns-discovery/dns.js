// A name server for the tutorial: `node dns.js RECORDS.json`. It answers on 127.0.0.1:5300, over UDP, with the SRV
// records that the file lists, read anew for each question, and with 127.0.0.1 for every other name.
const dgram = require('node:dgram');
const fs = require('node:fs');

const A = 1, SRV = 33, TTL = 1, NXDOMAIN = 3;
const file = process.argv[2];
if (!file) {
  console.error('usage: node dns.js RECORDS.json');
  process.exit(64);
}

const labels = (name) => Buffer.concat([
  ...name.split('.').map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)])),
  Buffer.from([0]),
]);

// The name in the question, and where it ends.
function question(packet) {
  const name = [];
  let at = 12;
  while (packet[at] !== 0) {
    name.push(packet.toString('latin1', at + 1, at + 1 + packet[at]));
    at += 1 + packet[at];
  }
  return { name: name.join('.').toLowerCase(), type: packet.readUInt16BE(at + 1), end: at + 5 };
}

function record(type, data) {
  const head = Buffer.alloc(12);
  head.writeUInt16BE(0xc00c, 0); // the name of the question
  head.writeUInt16BE(type, 2);
  head.writeUInt16BE(1, 4); // IN
  head.writeUInt32BE(TTL, 6);
  head.writeUInt16BE(data.length, 10);
  return Buffer.concat([head, data]);
}

function srv({ priority = 0, weight = 1, port }) {
  const numbers = Buffer.alloc(6);
  [priority, weight, port].forEach((number, index) => numbers.writeUInt16BE(number, 2 * index));
  return record(SRV, Buffer.concat([numbers, labels('node.internal')]));
}

function answers({ name, type }) {
  if (!name.startsWith('_')) return type === A ? [record(A, Buffer.from([127, 0, 0, 1]))] : [];
  const listed = JSON.parse(fs.readFileSync(file))[name];
  return type === SRV && listed ? listed.map(srv) : null;
}

const server = dgram.createSocket('udp4');
server.on('message', (packet, client) => {
  try {
    const asked = question(packet);
    const found = answers(asked);
    const reply = Buffer.concat([packet.subarray(0, asked.end), ...(found ?? [])]);
    reply.writeUInt16BE(0x8580 | (found ? 0 : NXDOMAIN), 2); // an answer, authoritative, recursion to be had
    reply.writeUInt16BE(found?.length ?? 0, 6);
    reply.writeUInt32BE(0, 8);
    server.send(reply, client.port, client.address);
  } catch (error) {
    console.error(error.message);
  }
});
server.bind(5300, '127.0.0.1', () => console.log('name server on 127.0.0.1:5300'));
