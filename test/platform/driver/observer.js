// Looks at, times and disturbs the calls that the pipeline makes to its nodes, without touching the packages' files.
'use strict';

const fs = require('fs');
const path = require('path');

const now = () => Number(process.hrtime.bigint() / 1000n) / 1000; // ms

const nodeOf = serviceId => serviceId.slice(serviceId.lastIndexOf('-') + 1);

// Resolves when a WebSocket opens on `port`. A TCP connection says nothing: Docker's proxy accepts one for a container
// that does not listen yet.
function answered(WebSocket, port) {
  return new Promise((resolve) => {
    const attempt = () => {
      const socket = new WebSocket(`ws://127.0.0.1:${port}`);
      socket.on('open', () => { socket.close(1000); resolve(); });
      socket.on('error', () => setTimeout(attempt, 10));
    };
    attempt();
  });
}

const actions = {
  kill: ({ child, container }) => (child ? child.kill('SIGKILL') : container.kill()),
  pause: ({ child, container }) => (child ? child.kill('SIGSTOP') : container.pause()),
  file: (service, fault, folder) => fs.writeFileSync(path.join(folder, fault.name), Buffer.alloc(fault.bytes || 1, 7)),
};

// Wrap `manager.startService` so that every call is timed and the configured faults happen; returns what was seen.
function observe(config, { manager, WebSocket }, run) {
  const began = now();
  const since = () => now() - began;
  const figures = { calls: {}, starts: {}, faults: [] };
  const genuine = manager.startService;

  async function disturb(node, iteration, when, serviceId) {
    const due = config.faults.filter(f => f.node === node && f.iteration === iteration && (f.when || 'running') === when);
    await Promise.all(due.map(async (fault) => {
      if (fault.after) await new Promise((resolve) => { setTimeout(resolve, fault.after); });
      const folder = path.join(config.directory, 'transfer', node, run);
      await actions[fault.action](manager.getServices()[serviceId], fault, folder);
      figures.faults.push({ node, iteration, action: fault.action, at: since() });
    }));
  }

  function timed(service, node, serviceId) {
    return async (request) => {
      const call = { iteration: request.input.state.iteration, began: since() };
      (figures.calls[node] = figures.calls[node] || []).push(call);
      const disturbed = disturb(node, call.iteration, 'running', serviceId);
      try {
        return await service(request);
      } finally {
        call.ended = since();
        await disturbed;
        await disturb(node, call.iteration, 'idle', serviceId);
      }
    };
  }

  // A service that is not the one of the last call was started just now.
  const last = {};
  manager.startService = async (request) => {
    const start = { asked: since() };
    const service = await genuine(request);
    const node = nodeOf(request.serviceId);
    if (last[node] !== service) {
      last[node] = service;
      start.started = since();
      (figures.starts[node] = figures.starts[node] || []).push(start);
      const { port } = manager.getServices()[request.serviceId];
      if (config.measure) answered(WebSocket, port).then(() => { start.answered = since(); });
    }
    return timed(service, node, request.serviceId);
  };

  return {
    figures,
    unanswered: (state) => {
      const open = Object.entries(figures.calls).filter(([, calls]) => calls.some(call => call.ended === undefined));
      return open.length ? open.map(([node]) => node) : (state && state.waitingOn) || [];
    },
  };
}

module.exports = { observe };
