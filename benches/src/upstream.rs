//! A provider that answers at once, over HTTP/2 without TLS: chat completions as JSON, and as a stream
//! of 100 events where the request asks for one. Prints its port, and serves until its standard input ends.

#[cfg(not(target_arch = "wasm32"))]
fn main() -> std::io::Result<()> {
    provider::main()
}

#[cfg(target_arch = "wasm32")]
fn main() {}

#[cfg(not(target_arch = "wasm32"))]
mod provider {
    use std::io;
    use std::rc::Rc;

    use bytes::Bytes;
    use h2::RecvStream;
    use h2::server::SendResponse;
    use http::{Request, Response};
    use tokio::net::{TcpListener, TcpStream};

    const EVENTS: usize = 100;

    struct Answers {
        chat: Bytes,
        events: Vec<Bytes>,
    }

    pub(super) fn main() -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let tasks = tokio::task::LocalSet::new();
        std::thread::spawn(|| {
            let _ = io::copy(&mut io::stdin(), &mut io::sink());
            std::process::exit(0);
        });
        tasks.block_on(&runtime, async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            println!("{}", listener.local_addr()?.port());
            let answers = Rc::new(Answers::new());
            loop {
                let (connection, _) = listener.accept().await?;
                connection.set_nodelay(true)?;
                tokio::task::spawn_local(serve(connection, Rc::clone(&answers)));
            }
        })
    }

    /// Until the peer goes away: that ends with an error, which is nobody's business.
    async fn serve(connection: TcpStream, answers: Rc<Answers>) -> Option<()> {
        let mut connection = h2::server::Builder::new()
            .initial_window_size(1 << 20)
            .initial_connection_window_size(1 << 24)
            .handshake::<_, Bytes>(connection)
            .await
            .ok()?;
        while let Some(Ok((request, respond))) = connection.accept().await {
            tokio::task::spawn_local(answer(request, respond, Rc::clone(&answers)));
        }
        None
    }

    async fn answer(
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        answers: Rc<Answers>,
    ) -> Result<(), h2::Error> {
        let mut body = request.into_body();
        let mut streamed = false;
        let mut first = true;
        while let Some(data) = body.data().await {
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
            // The benchmark's requests say it at their beginning.
            let head = data.get(..128).unwrap_or(&data);
            streamed |= first && head.windows(13).any(|part| part == b"\"stream\":true");
            first = false;
        }
        // What a provider says of its limits with every answer.
        let response = Response::builder()
            .header("x-ratelimit-limit-requests", "10000")
            .header("x-ratelimit-limit-tokens", "2000000")
            .header("x-ratelimit-remaining-requests", "9999")
            .header("x-ratelimit-remaining-tokens", "1999700")
            .header("x-ratelimit-reset-requests", "6ms")
            .header("x-ratelimit-reset-tokens", "9ms")
            .header("openai-processing-ms", "320")
            .header("x-request-id", "req_0123456789abcdef0123456789abcdef");
        if streamed {
            let response =
                response.header("content-type", "text/event-stream").body(()).expect("valid");
            let mut stream = respond.send_response(response, false)?;
            for (index, event) in answers.events.iter().enumerate() {
                stream.send_data(event.clone(), index + 1 == answers.events.len())?;
            }
        } else {
            let length = answers.chat.len();
            let response = response
                .header("content-type", "application/json")
                .header("content-length", length);
            let mut stream = respond.send_response(response.body(()).expect("valid"), false)?;
            stream.send_data(answers.chat.clone(), true)?;
        }
        Ok(())
    }

    impl Answers {
        fn new() -> Self {
            const USAGE: &str = r#"{"prompt_tokens":200,"completion_tokens":98,"total_tokens":298,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}"#;
            let chat = format!(
                r#"{{"id":"chatcmpl-0123456789","object":"chat.completion","created":1790000000,"model":"gpt-4o-mini-2024-07-18","choices":[{{"index":0,"message":{{"role":"assistant","content":"{}","refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"stop"}}],"usage":{USAGE},"service_tier":"default","system_fingerprint":"fp_0123456789"}}"#,
                "lorem ipsum ".repeat(50)
            );
            let chunk = |choices: &str, usage: &str| {
                Bytes::from(format!(
                    "data: {{\"id\":\"chatcmpl-0123456789\",\"object\":\"chat.completion.chunk\",\"created\":1790000000,\"model\":\"gpt-4o-mini-2024-07-18\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_0123456789\",\"choices\":{choices},\"usage\":{usage}}}\n\n"
                ))
            };
            let delta = r#"[{"index":0,"delta":{"content":" lorem"},"logprobs":null,"finish_reason":null}]"#;
            let finish = r#"[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]"#;
            let mut events = vec![chunk(delta, "null"); EVENTS - 3];
            events.push(chunk(finish, "null"));
            events.push(chunk("[]", USAGE));
            events.push(Bytes::from_static(b"data: [DONE]\n\n"));
            Self { chat: Bytes::from(chat), events }
        }
    }
}
