// Layouts of 50,000 nodes take their time on a busy machine.
export default { test: { testTimeout: 60_000 } };
