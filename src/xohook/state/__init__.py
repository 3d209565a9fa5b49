"""What outlives the process: record, stamp, and the log that waits while disks are frozen."""
