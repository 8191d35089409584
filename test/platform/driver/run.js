#!/usr/bin/env node
// One run of a computation through COINSTAC's own pipeline code: a broker, a centre and N sites in this process.
//
//   node run.js CONFIG.json     (or the configuration on standard input)
//
// Configuration:
//   modules      folder that holds node_modules with the exact versions of package.json
//   mode         "process": each node's computation is `command`; "docker": the package's own Docker service
//   directory    operating directory: input/, output/, transfer/, system/ and our logs/ are in it
//   compspec     the compspec as an object
//   inputs       one {name: value} for each site; their number is the number of sites
//   command, environment, cwd           process mode: what to spawn for each node
//   image, containers                   docker mode: image instead of the compspec's; {node or "*": create options}
//   deadline     seconds after which the run is given up
//   measure      also time how long a started node takes to answer on its port
//   faults       [{node, iteration, when: "running" | "idle", after: ms, action: "kill" | "pause" | "file", name, bytes}]
//   network      {delay: {node: ms}, duplicate: true}: what the broker does to the sites' messages
//
// Result, as one JSON line on standard output: {ok, reason, nodes: {node: {result | error}}, calls, starts, unhandled}.
// Exit status: 0 every node finished, 1 a node failed, 2 the configuration is unusable, 3 the deadline passed.
'use strict';

const fs = require('fs');
const { createRequire } = require('module');
const net = require('net');
const path = require('path');
const { startBroker } = require('./broker');
const { observe } = require('./observer');
const { processManager } = require('./process_manager');

const RUN = 'simulatorRun';

// The packages log to standard output, which belongs to the result.
process.stdout.write = process.stderr.write.bind(process.stderr);

function readConfig() {
  const config = JSON.parse(fs.readFileSync(process.argv[2] || 0, 'utf8'));
  ['modules', 'mode', 'directory', 'compspec', 'inputs', 'deadline'].forEach((key) => {
    if (config[key] === undefined) throw new Error(`the configuration lacks ${key}`);
  });
  return { faults: [], network: {}, containers: {}, ...config, directory: path.resolve(config.directory) };
}

function freePort() {
  return new Promise((resolve, reject) => {
    const server = net.createServer().on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

// Colourless lines to standard error, in the form that the packages expect of a winston logger.
function makeLogger() {
  const say = level => text => process.stderr.write(`${level}: ${text}\n`);
  return { silly() {}, debug() {}, info() {}, warn: say('warn'), error: say('error'), log: say('log') };
}

// CI=1 makes the pipeline hand out host paths, which is what a process without a container needs; with Docker it would
// bind other volumes, so a CI machine's own CI=true must not reach the packages.
function loadPackages(config) {
  const load = createRequire(path.join(path.resolve(config.modules), 'package.json'));
  if (config.mode === 'process') {
    process.env.CI = '1';
    const { ServiceFunctionGenerator } = load('coinstac-container-manager/src/services/serviceFunction');
    const name = load.resolve('coinstac-container-manager');
    const exports = processManager(config, ServiceFunctionGenerator, freePort);
    load.cache[name] = { id: name, filename: name, loaded: true, exports };
  } else {
    delete process.env.CI;
  }
  const manager = load('coinstac-container-manager');
  return { Pipeline: load('coinstac-pipeline'), manager, WebSocket: load('ws') };
}

function nodeNames(config) {
  return ['remote', ...config.inputs.map((_, index) => `local${index}`)];
}

// The pipeline of one node: one decentralized step, the inputs wrapped as the platform wraps them.
function pipelineSpec(config, node, label) {
  const compspec = JSON.parse(JSON.stringify(config.compspec));
  const options = { Labels: { [label]: node }, ...config.containers['*'], ...config.containers[node] };
  [compspec.computation, compspec.computation.remote].forEach((part) => {
    part.containerOptions = options;
    if (config.image) part.dockerImage = config.image;
  });
  const inputs = node === 'remote' ? {} : config.inputs[Number(node.slice('local'.length))];
  const wrapped = Object.entries(inputs).map(([name, value]) => [name, { value }]);
  return { steps: [{ controller: { type: 'decentralized' }, computations: [compspec], inputMap: Object.fromEntries(wrapped) }] };
}

async function startNodes(config, packages, label) {
  const mqttRemotePort = await startBroker(path.resolve(config.modules), config.network);
  const remotePort = await freePort();
  const sites = nodeNames(config).slice(1);
  const runs = {};
  for (const node of nodeNames(config)) { // the centre first, as the server is always up before its clients
    const manager = await packages.Pipeline.create({
      clientId: node,
      mode: node === 'remote' ? 'remote' : 'local',
      remotePort,
      mqttRemotePort,
      mqttRemoteURL: '127.0.0.1',
      mqttRemoteProtocol: 'mqtt:',
      remoteURL: '127.0.0.1',
      operatingDirectory: config.directory,
      logger: makeLogger(),
    });
    const clients = node === 'remote' ? { clients: Object.fromEntries(sites.map(site => [site, site])) } : {};
    runs[node] = manager.startPipeline({ spec: pipelineSpec(config, node, label), runId: RUN, owner: 'local0', ...clients });
  }
  return runs;
}

function settle(runs) {
  return Promise.all(Object.entries(runs).map(async ([node, run]) => {
    try {
      return [node, { result: await run.result }];
    } catch (error) {
      return [node, { error: String((error && error.message) || error) }];
    }
  })).then(Object.fromEntries);
}

// Resolves to null at the deadline; the timer must not keep the process alive after the run.
function deadline(seconds) {
  return new Promise((resolve) => { setTimeout(() => resolve(null), seconds * 1000); });
}

function report(nodes, waitingOn, seen, unhandled) {
  const failed = nodes ? Object.values(nodes).some(node => node.error !== undefined) : true;
  const ok = !failed && unhandled.length === 0;
  const reason = ok ? '' : (nodes ? 'a node failed' : `deadline passed, waiting on ${waitingOn.join(', ') || 'nobody'}`);
  return { ok, reason, nodes: nodes || {}, ...seen, unhandled };
}

// Docker mode: keep each container's log, then take away the containers, which the platform itself only stops.
async function clearContainers(config, { docker }, label) {
  const found = await docker.listContainers({ all: true, filters: { label: [label] } });
  await Promise.all(found.map(async ({ Id, Labels, Created }) => {
    const container = docker.getContainer(Id);
    const log = await container.logs({ stdout: true, stderr: true });
    fs.writeFileSync(path.join(config.directory, 'logs', `${Labels[label]}-${Created}-${Id.slice(0, 6)}.log`), log);
    await container.remove({ force: true });
  }));
}

async function main() {
  const config = readConfig();
  fs.mkdirSync(path.join(config.directory, 'logs'), { recursive: true });
  const label = `meshnet-platform-${process.pid}-${Date.now()}`;
  const packages = loadPackages(config);
  const unhandled = [];
  process.on('unhandledRejection', error => unhandled.push(String((error && error.stack) || error)));
  const clear = () => (config.mode === 'process' ? packages.manager.killAll() : clearContainers(config, packages.manager, label));
  ['SIGINT', 'SIGTERM'].forEach(signal => process.on(signal, () => clear().finally(() => process.exit(130))));
  const seen = observe(config, packages, RUN);
  const runs = await startNodes(config, packages, label);
  const nodes = await Promise.race([settle(runs), deadline(config.deadline)]);
  const { pipeline } = runs.remote;
  const waitingOn = nodes ? [] : seen.unanswered(pipeline.currentState);
  await clear();
  fs.writeSync(1, `${JSON.stringify(report(nodes, waitingOn, seen.figures, unhandled))}\n`);
  process.exit(nodes ? Number(!Object.values(nodes).every(node => node.error === undefined) || unhandled.length > 0) : 3);
}

main().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(2);
});
