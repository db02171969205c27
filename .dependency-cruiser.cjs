// Who may import whom. docs/architecture.md explains the folders; test/unit/layout.test.ts shows that these rules can fail.
// `npm run lint:imports` checks them. Type-only imports count like all others.

/** What every folder of src/ may import. */
const BASE = ['^src/lib/', '^src/config/', '^src/(problems|metrics)\\.ts$', '^openapi/problems\\.ts$']

/** The vocabulary of AMQP, without anything that talks to the broker. */
const WIRE_WORDS = ['^src/amqp/wire/(message|field-table|reserved|own-headers)\\.ts$']

/** The folders of src/, and what each may import besides itself and the base. With `base: false` it may not import the base. */
const FOLDERS = {
  lib: { base: false },
  config: { base: false, may: ['^src/lib/'] },
  amqp: {},
  messages: { may: WIRE_WORDS },
  access: { may: ['^src/amqp/'] },
  instances: { may: ['^src/definitions/'] },
  definitions: { may: ['^src/amqp/'] },
  delay: { may: ['^src/amqp/'] },
  retry: { may: ['^src/(definitions|amqp)/'] }, // of amqp only types: see retry-without-broker
  leases: { may: ['^src/(retry|delay|instances|amqp)/'] },
  receive: { may: ['^src/(leases|amqp)/'] },
  push: { may: ['^src/(receive|leases|messages|definitions|amqp)/', '^src/delay/levels\\.ts$'] },
  redrive: { may: ['^src/(definitions|messages|access|amqp)/'] },
  publish: { may: ['^src/(access|delay|messages|amqp)/'] },
}

const OURS = '^(src|routes|openapi|bench|test|scripts)/'

const folderRules = Object.entries(FOLDERS).map(([folder, { base = true, may = [] }]) => ({
  name: `folder-${folder}`,
  comment: `src/${folder} imports only itself and the folders below it, which .dependency-cruiser.cjs lists.`,
  severity: 'error',
  from: { path: `^src/${folder}/` },
  to: { path: OURS, pathNot: [`^src/${folder}/`, ...(base ? BASE : []), ...may] },
}))

/**
 * A package may be imported only by these files.
 * @param {string} name @param {string} library @param {string[]} by @param {string} comment
 */
const only = (name, library, by, comment) => ({
  name,
  comment,
  severity: 'error',
  from: { path: '^(src|routes|openapi|bench)/', pathNot: by },
  to: { path: `(^|/)node_modules/${library}(/|$)` },
})

/**
 * Code of one folder never imports another.
 * @param {string} name @param {string | object} from @param {string | object} to @param {string} comment
 */
const never = (name, from, to, comment) => ({
  name,
  comment,
  severity: 'error',
  from: typeof from === 'string' ? { path: from } : from,
  to: typeof to === 'string' ? { path: to } : to,
})

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    never('no-circles', {}, { circular: true }, 'Files import each other in a circle. Move what both need into a third file.'),
    never('no-unresolved', {}, { couldNotResolve: true }, 'The import resolves to no file and no installed package.'),

    never(
      'contract-stands-alone',
      '^openapi/',
      { path: OURS, pathNot: '^openapi/' },
      'The contract is what everything else is built on. It imports no code of the gateway.',
    ),
    never(
      'routes-below-the-process',
      '^routes/',
      '^(src/(plugins/|(app|main|server|cluster)\\.ts$)|bench/|test/|scripts/)',
      'Routes are registered by src/app.ts. They know neither plugins nor the process.',
    ),
    never(
      'routes-only-from-app',
      { path: OURS, pathNot: '^(routes/|src/app\\.ts$|test/)' },
      '^routes/',
      'Only src/app.ts registers routes.',
    ),
    never(
      'plugins-only-from-the-process',
      { path: '^(src|routes|openapi)/', pathNot: '^src/(plugins/|(app|server)\\.ts$)' },
      '^src/plugins/',
      'Only src/app.ts and src/server.ts register plugins.',
    ),
    never(
      'app-only-from-main',
      { path: '^(src|routes|openapi)/', pathNot: '^src/main\\.ts$' },
      '^src/app\\.ts$',
      'Only src/main.ts builds the application.',
    ),
    never('main-from-nowhere', '^(src|routes|openapi|bench)/', '^src/main\\.ts$', 'src/main.ts is the program, not a module.'),

    ...folderRules,
    never(
      'base-stands-alone',
      '^src/(problems|metrics)\\.ts$',
      { path: OURS, pathNot: BASE },
      'The problem class and the metrics are imported from everywhere. They import only the base.',
    ),
    never(
      'wire-below-publish-and-consume',
      '^src/amqp/wire/',
      '^src/amqp/(publish|consume)/|^src/amqp/[^/]+\\.ts$',
      'amqp/wire knows frames and connections, not what is done with them.',
    ),
    never(
      'publish-beside-consume',
      '^src/amqp/publish/',
      '^src/amqp/consume/',
      'amqp/publish and amqp/consume do not know each other.',
    ),
    never(
      'consume-beside-publish',
      '^src/amqp/consume/',
      '^src/amqp/publish/',
      'amqp/publish and amqp/consume do not know each other.',
    ),

    never(
      'retry-without-broker',
      '^src/retry/',
      { path: '^src/amqp/', dependencyTypesNot: ['type-only'] },
      'A retry policy decides and stores. It needs types of src/amqp, and calls nothing there.',
    ),

    never(
      'contract-needs-only-typebox',
      '^openapi/',
      { path: '(^|/)node_modules/', pathNot: '(^|/)node_modules/typebox(/|$)' },
      'The contract is built from typebox schemas, without any other package.',
    ),
    only(
      'amqplib-in-one-file',
      '(@types/)?amqplib',
      ['^src/amqp/wire/amqplib\\.ts$', '^bench/'],
      'Only src/amqp/wire/amqplib.ts imports amqplib.',
    ),
    only('undici-only-in-bench', 'undici', ['^bench/'], 'Only the benchmark imports undici.'),
    only(
      'fastify-at-the-edge',
      '(@fastify/[^/]+|fastify(-plugin)?)',
      ['^routes/', '^src/plugins/', '^src/(app|server)\\.ts$', '^bench/'],
      'Only routes, plugins, src/app.ts and src/server.ts know the HTTP framework.',
    ),

    never(
      'bench-from-outside',
      '^bench/',
      '^(src|routes|openapi|test)/',
      'The benchmark sees the gateway over HTTP alone, so that it can measure any version.',
    ),
    never(
      'nobody-needs-bench',
      { path: OURS, pathNot: '^(bench/|test/|scripts/)' },
      '^bench/',
      'The benchmark is no part of the gateway.',
    ),
    never(
      'tests-stay-out',
      '^(src|routes|openapi|bench)/',
      '^test/',
      'Code of the gateway and of the benchmark imports nothing of the tests.',
    ),
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    combinedDependencies: false,
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'types', 'node', 'default'],
      extensions: ['.ts', '.js', '.mjs', '.json'],
    },
    skipAnalysisNotInRules: true,
  },
}
