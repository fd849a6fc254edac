"""Both frameworks' test suites and typical applications, on specfuse and its alternatives."""
