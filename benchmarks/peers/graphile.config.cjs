// The settings of https://worker.graphile.org/docs/performance, with the schema of the jobs in ./tasks.
module.exports = {
  worker: {
    connectionString: "postgres:///",
    taskDirectory: `${__dirname}/tasks`,
    concurrentJobs: 24,
    maxPoolSize: 25,
    localQueue: { size: 500 },
    completeJobBatchDelay: 0,
    failJobBatchDelay: 0,
  },
};
