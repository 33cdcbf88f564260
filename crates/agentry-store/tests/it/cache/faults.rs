//! Redis killed, frozen, flushed, restored with old data, or unreachable: reads stay correct.

use std::sync::Arc;
use std::time::Duration;

use agentry_core::id::TaskId;
use agentry_core::task::TaskStatus;
use agentry_lab::Shape;
use agentry_store::StateStore;
use agentry_store::cache::{CachedStore, RedisOptions};
use agentry_store::contract::build::finish;

use super::fixtures::{connected, ended, memory, now, open, status, thread, turn, until, window};
use super::server::{OwnRedis, proxy_to};

/// Returns a cache on a Redis of the test's own, with the timeout of production.
async fn cache(inner: &Arc<dyn StateStore>, url: &str) -> (Arc<CachedStore>, Arc<dyn StateStore>) {
    let cache = Arc::new(CachedStore::connect(Arc::clone(inner), RedisOptions::new(url).unwrap()));
    connected(&cache).await;
    (Arc::clone(&cache), cache)
}

/// Reads until a task is served from Redis: fills are lost while it is unavailable.
async fn until_hit(cache: &CachedStore, store: &Arc<dyn StateStore>, id: TaskId) {
    let before = cache.stats().tasks.hits;
    for _ in 0..2_000 {
        assert_eq!(status(store, id).await, TaskStatus::Completed);
        if cache.stats().tasks.hits > before {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("no hit: {:?}", cache.stats());
}

/// Writes and reads while Redis is unavailable: every read is correct.
async fn work(store: &Arc<dyn StateStore>, rounds: usize) {
    for _ in 0..rounds {
        let lease = open(store).await;
        assert_eq!(status(store, lease.task).await, TaskStatus::Running);
        store.advance(finish(lease, now()).into()).await.unwrap();
        assert_eq!(status(store, lease.task).await, TaskStatus::Completed);
        assert_eq!(store.journal(lease.task, 0, 10).await.unwrap(), []);
        let session = thread(&TaskId::generate().to_string());
        turn(store, &session, &["a", "b"]).await;
        assert_eq!(window(store, &session).await, ["a", "b"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_killed() {
    let mut redis = OwnRedis::start();
    let (cache, store) = cache(&memory(), &redis.url()).await;
    let id = ended(&store).await;
    until_hit(&cache, &store, id).await;
    redis.kill();
    work(&store, 20).await;
    assert_eq!(status(&store, id).await, TaskStatus::Completed);
    let stats = cache.stats();
    assert!(!stats.connected && stats.breaker_openings == 1, "{stats:?}");
    assert!(stats.tasks.bypasses > 0, "{stats:?}");
    redis.restart();
    connected(&cache).await;
    until_hit(&cache, &store, id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_frozen() {
    let redis = OwnRedis::start();
    let (cache, store) = cache(&memory(), &redis.url()).await;
    let id = ended(&store).await;
    until_hit(&cache, &store, id).await;
    redis.pause();
    work(&store, 20).await;
    let stats = cache.stats();
    assert!(!stats.connected && stats.breaker_openings == 1, "{stats:?}");
    assert!(stats.errors <= 8, "only a few calls have waited for it: {stats:?}");
    redis.resume();
    connected(&cache).await;
    until_hit(&cache, &store, id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_flushed() {
    let redis = OwnRedis::start();
    let (cache, store) = cache(&memory(), &redis.url()).await;
    let id = ended(&store).await;
    until_hit(&cache, &store, id).await;
    let misses = cache.stats().tasks.misses;
    redis.run("FLUSHALL");
    assert_eq!(status(&store, id).await, TaskStatus::Completed);
    assert_eq!(cache.stats().tasks.misses, misses + 1);
    until_hit(&cache, &store, id).await;
    assert_eq!(cache.stats().breaker_openings, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_restarted_with_old_data() {
    let mut redis = OwnRedis::start();
    let (cache, store) = cache(&memory(), &redis.url()).await;
    let (session, lease) = (thread("saved"), open(&store).await);
    assert_eq!(status(&store, lease.task).await, TaskStatus::Running);
    turn(&store, &session, &["old", "older"]).await;
    until(&cache, "the turn is kept", |stats| stats.fills == 2).await;
    redis.run("SAVE");
    assert!(store.delete_session(&session).await.unwrap());
    until(&cache, "its entries are removed", |stats| stats.invalidations == 1).await;
    store.advance(finish(lease, now()).into()).await.unwrap();
    turn(&store, &session, &["new", "newer"]).await;
    redis.kill();
    redis.restart();
    // The link notices on its next use.
    let hits = cache.stats().messages.hits;
    for _ in 0..400 {
        assert_eq!(window(&store, &session).await, ["new", "newer"]);
        assert_eq!(status(&store, lease.task).await, TaskStatus::Completed);
        if cache.stats().messages.hits > hits {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(cache.stats().messages.hits > hits, "{:?}", cache.stats());
    let keys: Vec<String> =
        redis::cmd("KEYS").arg("*:messages:*").query(&mut super::server::connection(&redis.url())).unwrap();
    assert_eq!(keys.len(), 2, "the deleted life is back in Redis, and nobody asks for it: {keys:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_out_of_reach_for_the_writer_only() {
    let redis = OwnRedis::start();
    let inner = memory();
    let (proxy, proxy_url) = proxy_to(&redis.url()).await;
    let (near, reader) = cache(&inner, &redis.url()).await;
    let (far, writer) = cache(&inner, &proxy_url).await;
    for life in 0..3 {
        let session = thread("partition");
        let old = format!("old {life}");
        turn(&reader, &session, &[&old]).await;
        let fills = near.stats().fills;
        assert_eq!(window(&reader, &session).await, std::slice::from_ref(&old));
        until(&near, "the window is kept", |stats| stats.fills >= fills).await;
        let task = open(&writer).await;
        assert_eq!(status(&reader, task.task).await, TaskStatus::Running);
        proxy.shape_both(Shape::black_hole());
        // The reader keeps relying on its record until the deletion is acknowledged.
        let deleting = tokio::spawn({
            let (writer, session) = (Arc::clone(&writer), session.clone());
            async move { writer.delete_session(&session).await.unwrap() }
        });
        while !deleting.is_finished() {
            reader.messages(&session, 0, 1).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(deleting.await.unwrap());
        assert_eq!(reader.messages(&session, 0, 1).await.unwrap(), [], "deleted, and acknowledged");
        assert_eq!(window(&reader, &session).await, Vec::<String>::new());
        writer.advance(finish(task, now()).into()).await.unwrap();
        assert_eq!(status(&reader, task.task).await, TaskStatus::Completed);
        assert_eq!(status(&writer, task.task).await, TaskStatus::Completed);
        work(&writer, 10).await;
        assert!(!far.stats().connected && near.stats().connected, "only the writer's way is cut");
        proxy.heal();
        connected(&far).await;
    }
    assert!(near.stats().messages.hits > 0 && near.stats().breaker_openings == 0, "{:?}", near.stats());
    assert_eq!(far.stats().breaker_openings, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_unreachable_from_the_start() {
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let options = RedisOptions::new(&format!("redis://127.0.0.1:{port}")).unwrap();
    let cache = Arc::new(CachedStore::connect(memory(), options));
    let store: Arc<dyn StateStore> = cache.clone();
    work(&store, 20).await;
    let stats = cache.stats();
    assert!(!stats.connected && stats.fills == 0 && stats.errors == 0 && stats.tasks.bypasses > 0, "{stats:?}");
}
