// node-rdkafka and the librdkafka inside it: all topics, regex subscription, produce, consume.
//
// Usage: NODE_PATH=… node librdkafka.js BOOTSTRAP

const rdkafka = require('node-rdkafka');

const bootstrap = process.argv[2];
const count = 300;
const topics = ['node-a', 'node-b'];
const common = { 'metadata.broker.list': bootstrap };

function wrong(what) {
  console.log(`WRONG: ${what}`);
  process.exit(1);
}

const call = (f) => new Promise((done, fail) => f((error, value) => (error ? fail(error) : done(value))));

async function main() {
  console.log('node-rdkafka', require('node-rdkafka/package.json').version, 'librdkafka', rdkafka.librdkafkaVersion);
  const admin = rdkafka.AdminClient.create(common);
  for (const topic of topics) {
    await call((done) => admin.createTopic({ topic, num_partitions: 2, replication_factor: 1 }, 30000, done));
  }
  const producer = new rdkafka.Producer({ ...common, 'enable.idempotence': true, 'compression.codec': 'lz4', dr_cb: true });
  const metadata = await call((done) => producer.connect({ allTopics: true }, done));
  const named = metadata.topics.map((t) => t.name);
  if (!topics.every((t) => named.includes(t))) wrong(`all topics are ${named}`);
  let delivered = 0;
  producer.on('delivery-report', (error) => (error ? wrong(error) : (delivered += 1)));
  producer.setPollInterval(20);
  const written = new Set();
  for (const topic of topics) {
    for (let i = 0; i < count; i += 1) {
      producer.produce(topic, null, Buffer.from(`${topic} value ${i}`), `key-${i}`);
      written.add(`${topic}/key-${i}/${topic} value ${i}`);
    }
  }
  await call((done) => producer.flush(60000, done));
  while (delivered < written.size) await new Promise((later) => setTimeout(later, 20));

  const consumer = new rdkafka.KafkaConsumer({ ...common, 'group.id': 'node' }, { 'auto.offset.reset': 'earliest' });
  await call((done) => consumer.connect({}, done));
  consumer.subscribe([/^node-.*/]);
  const found = new Set();
  consumer.on('data', ({ topic, key, value }) => {
    const one = `${topic}/${key}/${value}`;
    if (!written.has(one)) wrong(`nobody wrote ${one}`);
    if (found.has(one)) wrong(`${one} twice`);
    found.add(one);
    if (found.size === written.size) {
      console.log('all values are right');
      process.exit(0);
    }
  });
  consumer.consume();
  setTimeout(() => wrong(`${found.size} of ${written.size} records after a minute`), 60000);
}

main().catch((error) => wrong(error));
