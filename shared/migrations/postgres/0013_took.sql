-- How long attempts take.
UPDATE schema_info SET version = 13;

-- How long an attempt took, by its worker's own measure: unlike the time from started_at to finished_at it holds no wait for the
-- commits of either. None where no worker has told it.
ALTER TABLE work_requests ADD COLUMN took_ms bigint;

-- Each row is written three times, and all of a batch at once: with less room on its page every other version went to another
-- page, with an entry in each index. It takes no more of the disk, as versions that found no room took pages of their own.
ALTER TABLE work_requests SET (fillfactor = 50);
