// What coinstac-container-manager offers the pipeline, with a process in place of a container (no Docker needed).
'use strict';

const { spawn } = require('child_process');
const fs = require('fs');
const path = require('path');

const GRACE = 10000; // Docker's own patience between SIGTERM and SIGKILL, in ms

// The subset of the module that the pipeline uses; `ServiceFunctionGenerator` is the package's own, so the WebSocket
// exchange is the real one. A process that died between two calls is started anew, as the Docker service does.
function processManager(config, ServiceFunctionGenerator, freePort) {
  const services = {};

  async function start(serviceId) {
    const port = await freePort();
    const node = serviceId.slice(serviceId.lastIndexOf('-') + 1);
    const log = fs.openSync(path.join(config.directory, 'logs', `${node}.log`), 'a');
    const environment = { ...process.env, ...config.environment, COINSTAC_PORT: String(port) };
    delete environment.CI;
    const [program, ...words] = config.command;
    const child = spawn(program, words, { cwd: config.cwd, env: environment, stdio: ['ignore', log, log] });
    fs.closeSync(log);
    const ended = new Promise(resolve => child.on('close', resolve).on('error', resolve));
    const service = ServiceFunctionGenerator({ host: '127.0.0.1', port, compspecVersion: config.compspec.meta.compspecVersion });
    services[serviceId] = { child, ended, port, service };
    return service;
  }

  function alive(serviceId) {
    const known = services[serviceId];
    return known && known.child.exitCode === null && known.child.signalCode === null;
  }

  async function stopService(serviceId) {
    if (!alive(serviceId)) return;
    const { child, ended } = services[serviceId];
    const timer = setTimeout(() => child.kill('SIGKILL'), GRACE);
    child.kill('SIGTERM');
    await ended;
    clearTimeout(timer);
  }

  return {
    setImageDirectory() {},
    setLogger() {},
    setServiceProvider() {},
    getServices: () => services,
    getStats: async () => null,
    startService: ({ serviceId }) => (alive(serviceId) ? Promise.resolve(services[serviceId].service) : start(serviceId)),
    stopService,
    killAll: async () => Object.values(services).forEach(({ child }) => child.kill('SIGKILL')),
  };
}

module.exports = { processManager };
