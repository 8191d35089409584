// The MQTT broker of one run, in a process of its own as in the real simulator, with the arrival faults a test asks for.
'use strict';

const { fork } = require('child_process');
const net = require('net');

// A site's messages to the centre are those published on `run`; their sender is named in the JSON.
function sender(packet) {
  return packet.topic === 'run' ? JSON.parse(packet.payload).id : undefined;
}

// `network.delay[site]` holds a site's messages back, `network.duplicate` delivers each one twice.
function serve(modules, network) {
  const broker = require(require.resolve('aedes', { paths: [modules] }))();
  const delays = network.delay || {};
  broker.authorizePublish = (client, packet, done) => {
    const delay = delays[sender(packet)];
    // Not even a timer of 0 ms otherwise: a message later than its files is a fault of its own.
    if (delay) setTimeout(() => done(null), delay); else done(null);
  };
  if (network.duplicate) {
    broker.on('publish', (packet, client) => {
      if (client && sender(packet)) setTimeout(() => broker.publish({ ...packet, messageId: undefined }, () => {}), 50);
    });
  }
  const server = net.createServer(broker.handle);
  server.listen(0, '127.0.0.1', () => process.send(server.address().port));
}

// Resolves to the port of a new broker, which ends with this process.
function startBroker(modules, network) {
  return new Promise((resolve, reject) => {
    const child = fork(__filename, [modules, JSON.stringify(network)], { stdio: ['ignore', 2, 2, 'ipc'] });
    child.on('message', resolve).on('error', reject).on('exit', code => reject(new Error(`the broker ended: ${code}`)));
    process.on('exit', () => child.kill());
  });
}

if (require.main === module) serve(process.argv[2], JSON.parse(process.argv[3]));

module.exports = { startBroker };
