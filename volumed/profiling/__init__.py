"""Where a process spends its time: sampled stacks, and the pages that show them."""
