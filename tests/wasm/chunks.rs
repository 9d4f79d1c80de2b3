//! Bytes come in pieces of any size, and nobody can tell from what comes out.

use crate::support::router::{Script, End};
use crate::support::scene::{Worker, chat, cuts, document, single_bytes};

#[test]
fn smoke() {
    let stream = include_bytes!("../fixtures/openai/chat-stream-usage.sse");
    let mut worker = Worker::new(&document());
    let t = std::time::SystemTime::now();
    let mut n = 0;
    for chunks in cuts(stream) {
        n += 1;
        let answer = worker.exchange(&chat("fast", true), |_| Script::stream(chunks.clone(), End::WithLastChunk));
        assert_eq!(answer.status, 200);
    }
    eprintln!("{n} {:?}", t.elapsed());
    let answer = worker.exchange(&chat("fast", true), |_| Script::stream(single_bytes(stream), End::WithLastChunk));
    eprintln!("{}", String::from_utf8_lossy(&answer.body));
    eprintln!("{}", worker.status());
}
