// kafkajs: a client that is not librdkafka. All topics, regex subscription, produce, consume.
//
// Usage: NODE_PATH=… node kafkajs.js BOOTSTRAP

const { Kafka, CompressionTypes, logLevel } = require('kafkajs');

const count = 300;
const topics = ['kafkajs-a', 'kafkajs-b'];

function wrong(what) {
  console.log(`WRONG: ${what}`);
  process.exit(1);
}

async function main() {
  console.log('kafkajs', require('kafkajs/package.json').version);
  const kafka = new Kafka({ clientId: 'compat', brokers: [process.argv[2]], logLevel: logLevel.NOTHING });
  const admin = kafka.admin();
  await admin.connect();
  await admin.createTopics({ topics: topics.map((topic) => ({ topic, numPartitions: 2 })), waitForLeaders: true });
  const listed = await admin.listTopics();
  if (!topics.every((t) => listed.includes(t))) wrong(`all topics are ${listed}`);
  const producer = kafka.producer({ idempotent: true });
  await producer.connect();
  const written = new Set();
  for (const topic of topics) {
    const messages = [];
    for (let i = 0; i < count; i += 1) {
      messages.push({ key: `key-${i}`, value: `${topic} value ${i}` });
      written.add(`${topic}/key-${i}/${topic} value ${i}`);
    }
    await producer.send({ topic, messages, acks: -1, compression: CompressionTypes.GZIP });
  }
  const consumer = kafka.consumer({ groupId: 'kafkajs' });
  await consumer.connect();
  await consumer.subscribe({ topics: [/^kafkajs-.*/], fromBeginning: true });
  const found = new Set();
  setTimeout(() => wrong(`${found.size} of ${written.size} records after a minute`), 60000);
  await consumer.run({
    eachMessage: async ({ topic, message: { key, value } }) => {
      const one = `${topic}/${key}/${value}`;
      if (!written.has(one)) wrong(`nobody wrote ${one}`);
      if (found.has(one)) wrong(`${one} twice`);
      found.add(one);
      if (found.size === written.size) {
        console.log('all values are right');
        process.exit(0);
      }
    },
  });
}

main().catch((error) => wrong(error));
