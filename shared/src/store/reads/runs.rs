//! Reads of runs, their histories, and workers.

/// Puts a filter's conditions behind a query over work requests `w`; its page is not among them. What the filter compares is
/// read at the place.
macro_rules! let_through {
    ($query:ident, $filter:ident, $place:ident) => {
        let (kept, of, id) = ($place.kept(), $place.columns(), $place.id());
        $query.push(" WHERE ").push(kept).push("namespace = ").push_bind(&$filter.namespace);
        if let Some(job) = &$filter.job {
            $query.push(" AND ").push(of).push("job = ").push_bind(job);
        }
        if let Some(jobs) = $filter.jobs.listed() {
            let mut list = $query.push(" AND w.job IN (").separated(", ");
            for job in jobs {
                list.push_bind(job);
            }
            $query.push(")");
        }
        if let Some(schedule) = &$filter.schedule {
            $query.push(" AND ").push(kept).push("schedule = ").push_bind(schedule);
        }
        if let Some(only) = $filter.id {
            $query.push(" AND ").push(id).push(" = ").push_bind(only.0);
        }
        if let Some(resource) = &$filter.resource {
            $query.push(" AND w.resource ->> 'name' = ").push_bind(resource);
        }
        if let Some(parent) = $filter.parent {
            $query.push(" AND ").push(of).push("parent = ").push_bind(parent.0);
        }
        if !$filter.status.is_empty() {
            let mut list = $query.push(" AND ").push(of).push("status IN (").separated(", ");
            for status in &$filter.status {
                list.push_bind(status.as_str());
            }
            $query.push(")");
        }
        if let Some(after) = $filter.accepted_after {
            $query.push(" AND ").push(of).push("accepted_at >= ").push_bind(At(after));
            $query.push(" AND ").push(id).push(" >= ").push_bind(lowest_accepted(after));
        }
        if let Some(before) = $filter.accepted_before {
            $query.push(" AND ").push(of).push("accepted_at < ").push_bind(At(before));
            $query.push(" AND ").push(id).push(" < ").push_bind(beyond_accepted(before));
        }
    };
}

/// Implements [`super::super::database::ReadRuns`] for a type with a pool `read` of database `$db`; `$unended` is where it reads
/// unended work requests, `$not_among` says of a number that it is not in the JSON array `$2`, `$beside` looks up what a row names.
macro_rules! impl_read_runs {
    ($database:ty, $db:ty, $unended:literal, $not_among:literal, $beside:ident) => {
        #[async_trait::async_trait]
        impl $crate::store::database::ReadRuns for $database {
            async fn next_due(&self) -> Result<Option<Timestamp>> {
                let at: Option<At> = sqlx::query_scalar(concat!(
                    $crate::store::reads::due_lanes!(),
                    "SELECT min(at) FROM (
                         SELECT min(at) AS at FROM first UNION ALL
                         SELECT min(phase_at) FROM deliveries WHERE phase = 'parked' UNION ALL
                         SELECT min(wake_at) FROM limits WHERE wake_at IS NOT NULL) AS next",
                ))
                .fetch_one(&self.read)
                .await
                .map_err(step("look for the next trigger"))?;
                Ok(at.map(|at| at.0))
            }

            async fn due_lanes(&self) -> Result<Vec<DueLane>> {
                let rows: Vec<(i16, String, String, At)> = sqlx::query_as(concat!(
                    $crate::store::reads::due_lanes!(),
                    "SELECT priority, queue, namespace, at FROM first WHERE at IS NOT NULL",
                ))
                .fetch_all(&self.read)
                .await
                .map_err(step("look where something is due"))?;
                let lane = |(urgency, queue, namespace, At(at))| {
                    Ok((Lane { route: Route { queue, priority: priority(urgency)? }, namespace }, at))
                };
                rows.into_iter().map(lane).collect()
            }

            async fn queued(&self) -> Result<Vec<(String, i64)>> {
                sqlx::query_as(
                    "SELECT namespace, count(*) FROM deliveries
                     WHERE attempt = 0 AND phase IN ('held', 'due', 'sent') GROUP BY namespace",
                )
                .fetch_all(&self.read)
                .await
                .map_err(step("count what waits"))
            }

            async fn unclaimed_on(&self, route: &Route) -> Result<i64> {
                sqlx::query_scalar("SELECT count(*) FROM deliveries WHERE phase = 'sent' AND queue = $1 AND priority = $2")
                    .bind(&route.queue)
                    .bind(priority_column(route.priority))
                    .fetch_one(&self.read)
                    .await
                    .map_err(step("count unclaimed triggers"))
            }

            async fn ahead_in_lane(&self, run: WorkRequestId, limit: i64) -> Result<i64> {
                sqlx::query_scalar(
                    "SELECT count(*) FROM (
                         SELECT 1 FROM deliveries m JOIN deliveries d
                         ON (d.priority, d.queue, d.namespace) = (m.priority, m.queue, m.namespace)
                         WHERE m.id = $1 AND m.phase = 'due' AND d.phase = 'due'
                               AND (d.phase_at, d.id) < (m.phase_at, m.id)
                         LIMIT $2) AS ahead",
                )
                .bind(run.0)
                .bind(limit)
                .fetch_one(&self.read)
                .await
                .map_err(step("count due runs"))
            }

            async fn work_request(&self, namespace: &str, id: WorkRequestId) -> Result<Option<WorkRequest>> {
                let row: Option<WorkRequestRow> = sqlx::QueryBuilder::<$db>::new(WORK_REQUEST)
                    .push(" WHERE w.id = ")
                    .push_bind(id.0)
                    .push(" AND w.namespace = ")
                    .push_bind(namespace)
                    .build_query_as()
                    .fetch_optional(&self.read)
                    .await
                    .map_err(step("read a work request"))?;
                row.map(WorkRequest::try_from).transpose()
            }

            async fn work_requests(&self, filter: &ListFilter, limit: i64) -> Result<Vec<WorkRequest>> {
                let mut query = sqlx::QueryBuilder::<$db>::new($crate::store::reads::work_request_columns!());
                let place = filter.place();
                query.push(place.rows($unended)).push($crate::store::reads::work_request_parts!());
                $crate::store::reads::let_through!(query, filter, place);
                let Order { by, ascending } = filter.order;
                if let Some(last) = filter.after {
                    let beyond = if ascending { " > " } else { " < " };
                    if by == SortBy::Accepted {
                        query.push(" AND ").push(place.id()).push(beyond).push_bind(last.0);
                    } else {
                        query.push(" AND (").push(by.columns("w").join(", ")).push(")").push(beyond).push("(SELECT ");
                        query.push(by.columns("x").join(", ")).push(" FROM work_requests x WHERE x.id = ");
                        query.push_bind(last.0).push(")");
                    }
                }
                let direction = if ascending { "" } else { " DESC" };
                let columns = if by == SortBy::Accepted { vec![place.id().to_owned()] } else { by.columns("w") };
                let order: Vec<_> = columns.iter().map(|column| format!("{column}{direction}")).collect();
                query.push(" ORDER BY ").push(order.join(", ")).push(" LIMIT ").push_bind(limit);
                let rows: Vec<WorkRequestRow> =
                    query.build_query_as().fetch_all(&self.read).await.map_err(step("list work requests"))?;
                all(rows)
            }

            async fn unended(&self, filter: &ListFilter, limit: i64) -> Result<Vec<WorkRequestId>> {
                let mut query = sqlx::QueryBuilder::<$db>::new("SELECT u.id FROM ");
                let place = Place::Unended;
                query.push(place.rows($unended));
                $crate::store::reads::let_through!(query, filter, place);
                if let Some(last) = filter.after {
                    query.push(" AND u.id > ").push_bind(last.0);
                }
                query.push(" ORDER BY u.id LIMIT ").push_bind(limit);
                let ids: Vec<Uuid> = query
                    .build_query_scalar()
                    .fetch_all(&self.read)
                    .await
                    .map_err(step("look for unended work requests"))?;
                Ok(ids.into_iter().map(WorkRequestId).collect())
            }

            async fn wait_facts(&self, run: &WorkRequest, hold: Hold) -> Result<Option<WaitFacts>> {
                let column = if hold == Hold::Rate { "rate_key" } else { "concurrency_key" };
                let limit: Option<(String, i64, Option<i64>, Option<At>, i16)> = sqlx::QueryBuilder::<$db>::new(
                    "SELECT l.key, l.most, l.period_ms, l.wake_at, d.priority FROM deliveries d JOIN limits l ON l.key = d.",
                )
                .push(column)
                .push(" WHERE d.id = ")
                .push_bind(run.id.0)
                .build_query_as()
                .fetch_optional(&self.read)
                .await
                .map_err(step("read a limit"))?;
                let Some((key, most, period_ms, wake_at, priority)) = limit else { return Ok(None) };
                let ahead: i64 = sqlx::QueryBuilder::<$db>::new("SELECT count(*) FROM deliveries WHERE phase = 'held' AND hold = '")
                    .push(hold.as_str())
                    .push("' AND ")
                    .push(column)
                    .push(" = ")
                    .push_bind(&key)
                    .push(" AND (priority, id) < (")
                    .push_bind(priority)
                    .push(", ")
                    .push_bind(run.id.0)
                    .push(")")
                    .build_query_scalar()
                    .fetch_one(&self.read)
                    .await
                    .map_err(step("count held runs"))?;
                let started: Vec<Option<At>> = sqlx::query_scalar(
                    "SELECT w.started_at FROM deliveries d JOIN work_requests w USING (id)
                     WHERE d.concurrency_key = $1 AND d.concurrency_key IS NOT NULL AND d.phase IN ('sent', 'leased', 'parked')",
                )
                .bind(&key)
                .fetch_all(&self.read)
                .await
                .map_err(step("read runs under way"))?;
                let taken = if period_ms.is_some() { most } else { i64::try_from(started.len()).unwrap_or(i64::MAX) };
                Ok(Some(WaitFacts {
                    key,
                    most,
                    per: period_ms.map(jiff::SignedDuration::from_millis),
                    wake_at: wake_at.map(|at| at.0),
                    taken,
                    ahead,
                    started: started.into_iter().flatten().map(|at| at.0).collect(),
                }))
            }

            async fn durations(
                &self,
                namespace: &str,
                job: &str,
                sample: i64,
                among: i64,
                now: Timestamp,
            ) -> Result<Vec<Took>> {
                for is_behind_backlog in [false, true] {
                    let mut query = sqlx::QueryBuilder::<$db>::new(
                        "SELECT started_at, finished_at, took_ms
                         FROM (SELECT id, status, started_at, finished_at, took_ms FROM work_requests WHERE namespace = ",
                    );
                    query.push_bind(namespace).push(" AND job = ").push_bind(job);
                    if is_behind_backlog {
                        // None of the newest has ended: those before the oldest that workers have or may take have.
                        query.push(
                            " AND id < (SELECT id FROM deliveries
                                        WHERE phase IN ('sent', 'leased') OR phase = 'due' AND phase_at <= ",
                        );
                        query.push_bind(At(now)).push(" ORDER BY id LIMIT 1)");
                    }
                    query.push(" ORDER BY id DESC LIMIT ").push_bind(among);
                    query.push(") AS last WHERE status = 'SUCCEEDED' ORDER BY id DESC LIMIT ").push_bind(sample);
                    let took = query.build_query_as().fetch_all(&self.read).await;
                    let took: Vec<(At, At, Option<i64>)> = took.map_err(step("read how long runs took"))?;
                    if !took.is_empty() {
                        let took = took.into_iter().map(|(start, end, took)| Took {
                            whole: end.0.duration_since(start.0).unsigned_abs(),
                            attempt: took.map(|ms| std::time::Duration::from_millis(ms.unsigned_abs())),
                        });
                        return Ok(took.collect());
                    }
                }
                Ok(Vec::new())
            }

            async fn events(&self, id: WorkRequestId, after: i32, limit: i64) -> Result<Vec<HistoryEvent>> {
                let rows: Vec<EventRow> = sqlx::query_as(
                    "SELECT seq, at, what FROM events WHERE work_request_id = $1 AND seq > $2 ORDER BY seq LIMIT $3",
                )
                .bind(id.0)
                .bind(after)
                .bind(limit)
                .fetch_all(&self.read)
                .await
                .map_err(step("read a history"))?;
                all(rows)
            }

            async fn logs(&self, id: WorkRequestId, after: (i32, i32), limit: i64) -> Result<Vec<LogLine>> {
                let rows: Vec<LogRow> = sqlx::query_as(
                    "SELECT attempt, seq, at, stream, text FROM logs
                     WHERE work_request_id = $1 AND (attempt, seq) > ($2, $3) ORDER BY attempt, seq LIMIT $4",
                )
                .bind(id.0)
                .bind(after.0)
                .bind(after.1)
                .bind(limit)
                .fetch_all(&self.read)
                .await
                .map_err(step("read logs"))?;
                all(rows)
            }

            async fn depths(&self) -> Result<Vec<QueueDepth>> {
                let rows: Vec<DepthRow> = sqlx::query_as(
                    "SELECT queue, phase, count(*) AS count FROM deliveries GROUP BY queue, phase ORDER BY queue, phase",
                )
                .fetch_all(&self.read)
                .await
                .map_err(step("count unended runs"))?;
                all(rows)
            }

            async fn workers(&self) -> Result<Vec<Worker>> {
                let rows: Vec<WorkerRow> = sqlx::query_as(
                    "SELECT w.incarnation, w.name, w.queues, w.slots, w.version, w.started_at, w.beat, w.beat_at,
                            w.ended_at, w.lease_ttl_ms, w.kind = 'external' AS is_external,
                            (SELECT count(*) FROM deliveries d WHERE d.worker = w.incarnation AND d.phase = 'leased')
                                AS leases
                     FROM workers w ORDER BY w.started_at DESC, w.incarnation",
                )
                .fetch_all(&self.read)
                .await
                .map_err(step("read the workers"))?;
                all(rows)
            }

            async fn leases_of(&self, worker: Uuid) -> Result<Vec<HeldLease>> {
                let rows: Vec<LeaseRow> = sqlx::QueryBuilder::<$db>::new(LEASE)
                    .push(" AND d.worker = ")
                    .push_bind(worker)
                    .build_query_as()
                    .fetch_all(&self.read)
                    .await
                    .map_err(step("read a worker's leases"))?;
                all(rows)
            }

            async fn late_reports(&self, id: WorkRequestId) -> Result<Vec<LateReport>> {
                let rows: Vec<LateRow> =
                    sqlx::query_as("SELECT token, at, outcome FROM late_reports WHERE work_request_id = $1 ORDER BY at")
                        .bind(id.0)
                        .fetch_all(&self.read)
                        .await
                        .map_err(step("read late reports"))?;
                all(rows)
            }

            async fn refused_events(&self, before: i64, limit: i64) -> Result<Vec<RefusedRecord>> {
                let rows: Vec<RefusedRow> = sqlx::query_as(
                    "SELECT seq, via, code, message, source, id, kind, subject, namespace, first_at, last_at, count
                     FROM refused_events WHERE seq < $1 ORDER BY seq DESC LIMIT $2",
                )
                .bind(before)
                .bind(limit)
                .fetch_all(&self.read)
                .await
                .map_err(step("read refused events"))?;
                all(rows)
            }

            async fn markers(&self) -> Result<Vec<Marker>> {
                let rows: Vec<MarkerRow> =
                    sqlx::query_as("SELECT id, queue, priority, sent_at, back_at FROM markers ORDER BY sent_at")
                        .fetch_all(&self.read)
                        .await
                        .map_err(step("read markers"))?;
                all(rows)
            }

            async fn next_sent(&self, after: Option<&Route>) -> Result<Option<(Route, Timestamp)>> {
                let row: Option<(String, i16, At)> = sqlx::query_as(
                    "SELECT queue, priority, phase_at FROM deliveries
                     WHERE phase = 'sent' AND (queue, priority) > ($1, $2) ORDER BY queue, priority, phase_at LIMIT 1",
                )
                .bind(after.map_or("", |route| route.queue.as_str()))
                .bind(after.map_or(-1, |route| priority_column(route.priority)))
                .fetch_optional(&self.read)
                .await
                .map_err(step("look for unclaimed triggers"))?;
                let route = |(queue, column, At(at))| Ok((Route { queue, priority: priority(column)? }, at));
                row.map(route).transpose()
            }

            async fn tells_transitions(&self) -> Result<bool> {
                sqlx::query_scalar("SELECT transitions FROM schema_info")
                    .fetch_one(&self.read)
                    .await
                    .map_err(step("look whether transitions are told"))
            }

            async fn untold(&self, besides: &[i64], limit: i64) -> Result<Vec<InOutbox>> {
                let rows: Vec<UntoldRow> = sqlx::query_as(in_outbox!("outbox", $not_among, $beside))
                    .bind(limit)
                    .bind(Json(besides))
                    .fetch_all(&self.read)
                    .await
                    .map_err(step("read what is to be told"))?;
                all(rows)
            }

            async fn overdue_leases(&self, now: Timestamp, limit: i64) -> Result<Vec<HeldLease>> {
                // Those of silent holders last: they may have to wait, and must not be in the way.
                let rows: Vec<LeaseRow> = sqlx::QueryBuilder::<$db>::new(LEASE)
                    .push(" AND d.phase_at < ")
                    .push_bind(At(now))
                    .push(" ORDER BY is_silent LIMIT ")
                    .push_bind(limit)
                    .build_query_as()
                    .fetch_all(&self.read)
                    .await
                    .map_err(step("look for overdue leases"))?;
                all(rows)
            }

            async fn abandoned(&self, now: Timestamp, limit: i64) -> Result<Vec<HeldLease>> {
                let rows: Vec<LeaseRow> = sqlx::query_as(
                    "SELECT d.id, d.operation_token AS token, d.worker, w.status, d.namespace, w.job, w.job_version, d.failures,
                            CAST(NULL AS bigint) AS lease_ms, false AS is_silent
                     FROM deliveries d JOIN work_requests w USING (id)
                     WHERE d.operation_token IS NOT NULL AND d.attempt_until <= $1 AND d.phase IN ('parked', 'sent')
                     LIMIT $2",
                )
                .bind(At(now))
                .bind(limit)
                .fetch_all(&self.read)
                .await
                .map_err(step("look for abandoned operations"))?;
                all(rows)
            }
        }
    };
}

pub(crate) use impl_read_runs;
pub(crate) use let_through;
