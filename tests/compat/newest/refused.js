// kafkajs asks for what is not there, a transaction and ACLs: each is to end with an error soon.
//
// Usage: NODE_PATH=… node refused.js BOOTSTRAP

const { Kafka, logLevel, AclResourceTypes, AclOperationTypes, AclPermissionTypes, ResourcePatternTypes } = require('kafkajs');

async function refused(what, type, ask, name) {
  try {
    await ask();
  } catch (error) {
    const cause = error.originalError || error.cause || error;
    if (name ? error.name === name : cause.type === type) return;
    console.log(`WRONG: ${what} ends with ${error.name} ${cause.type}: ${cause.message}`);
    process.exit(1);
  }
  console.log(`WRONG: ${what} is taken`);
  process.exit(1);
}

async function main() {
  const kafka = new Kafka({ clientId: 'refused', brokers: [process.argv[2]], logLevel: logLevel.NOTHING, retry: { retries: 1 } });
  const admin = kafka.admin();
  await admin.connect();
  const filter = {
    resourceType: AclResourceTypes.ANY,
    operation: AclOperationTypes.ANY,
    permissionType: AclPermissionTypes.ANY,
    resourcePatternType: ResourcePatternTypes.ANY,
  };
  await refused('a look at ACLs', 'SECURITY_DISABLED', () => admin.describeAcls(filter));
  const producer = kafka.producer({ idempotent: true, transactionalId: 'refused', maxInFlightRequests: 1 });
  await producer.connect();
  // kafkajs asks for the coordinator a second time and then keeps the broker's reason to itself.
  await refused('a transaction', undefined, () => producer.transaction(), 'KafkaJSGroupCoordinatorNotFound');
  await producer.disconnect().catch(() => {});
  await admin.disconnect();
}

main();
