#!/usr/bin/env node
// node check_compspec.js MODULES SCHEMA COMPSPEC: every breach of the registration's rules and of our schema, one a line.
//
// The Joi schema is COINSTAC's own, from the last coinstac-common on npm (5.4.0). 6.9.8 differs from it in one place only:
// it lets other keys stand in `meta`, which is done here too. Exit status: 0 sound, 1 breaches.
'use strict';

const fs = require('fs');
const { createRequire } = require('module');
const path = require('path');

const [modules, schemaPath, compspecPath] = process.argv.slice(2).map(name => path.resolve(name));
const load = createRequire(path.join(modules, 'package.json'));
const read = name => JSON.parse(fs.readFileSync(name, 'utf8'));

function registration(compspec) {
  const published = load('./coinstac-common/src/services/validator/schemas/computation.js').schema;
  const current = published.keys({ meta: published.extract('meta').unknown(true) });
  const { error } = current.validate(compspec, { abortEarly: false });
  return error ? error.details.map(detail => `registration: ${detail.message}`) : [];
}

function ours(compspec) {
  const Ajv = load('ajv');
  const validate = new Ajv({ allErrors: true, strict: false }).compile(read(schemaPath));
  if (validate(compspec)) return [];
  return validate.errors.map(error => `schema: ${error.instancePath || '/'} ${error.message} ${JSON.stringify(error.params)}`);
}

const compspec = read(compspecPath);
const breaches = [...registration(compspec), ...ours(compspec)];
breaches.forEach(line => console.log(line));
process.exit(Number(breaches.length > 0));
