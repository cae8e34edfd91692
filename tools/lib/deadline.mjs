// Loaded into each test file's process: node:test bounds single tests only, so a file whose tests are over (or never
// began) but which keeps something open would hold up the run for ever.
const seconds = Number(process.env.SALLYPORT_TEST_FILE_SECONDS);

if (seconds > 0) {
  delete process.env.SALLYPORT_TEST_FILE_SECONDS;
  setTimeout(() => {
    process.stderr.write(`this test file did not end within ${seconds} s\n`);
    process.exit(1);
  }, seconds * 1000).unref();
}
