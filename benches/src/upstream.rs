//! A provider that answers at once, over HTTP/2 without TLS: chat completions as JSON, and as a stream
//! of 100 events where the request asks for one; on Anthropic's and Gemini's paths the same in their words. With
//! `x-delay-milliseconds`, after about that time. Prints its port, and serves until its standard input ends.

#[cfg(not(target_arch = "wasm32"))]
fn main() -> std::io::Result<()> {
    provider::main()
}

#[cfg(target_arch = "wasm32")]
fn main() {}

#[cfg(not(target_arch = "wasm32"))]
mod provider {
    use std::cell::Cell;
    use std::io;
    use std::rc::Rc;
    use std::time::Duration;

    use bytes::Bytes;
    use h2::RecvStream;
    use h2::server::SendResponse;
    use http::{Request, Response};
    use tokio::net::{TcpListener, TcpStream};

    const EVENTS: usize = 100;

    struct Answers {
        openai: Format,
        anthropic: Format,
        gemini: Format,
        turn: Cell<u8>,
    }

    struct Format {
        whole: Bytes,
        events: Vec<Bytes>,
    }

    pub(super) fn main() -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
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
        let path = request.uri().path().to_owned();
        let format = match path.as_str() {
            path if path.ends_with("/messages") => &answers.anthropic,
            path if path.ends_with("enerateContent") => &answers.gemini,
            _ => &answers.openai,
        };
        let delay = request.headers().get("x-delay-milliseconds");
        let delay = delay.and_then(|delay| delay.to_str().ok()?.parse::<u64>().ok());
        let mut body = request.into_body();
        let mut streamed = path.ends_with(":streamGenerateContent");
        let mut first = true;
        while let Some(data) = body.data().await {
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
            // The benchmark's requests say it at their beginning, what is made of them may at their end.
            let says = |part: &[u8]| part.windows(13).any(|part| part == b"\"stream\":true");
            let (head, tail) = (data.get(..128), data.get(data.len().saturating_sub(128)..));
            streamed |= first && head.or(Some(&data)).is_some_and(says) || tail.is_some_and(says);
            first = false;
        }
        if let Some(delay) = delay {
            // Half as long to half as long again: clients that all wait alike would come back all at once.
            let turn = answers.turn.replace(answers.turn.get().wrapping_add(61));
            tokio::time::sleep(Duration::from_millis(delay / 2 + delay * u64::from(turn) / 256))
                .await;
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
            for (index, event) in format.events.iter().enumerate() {
                stream.send_data(event.clone(), index + 1 == format.events.len())?;
            }
        } else {
            let length = format.whole.len();
            let response = response
                .header("content-type", "application/json")
                .header("content-length", length);
            let mut stream = respond.send_response(response.body(()).expect("valid"), false)?;
            stream.send_data(format.whole.clone(), true)?;
        }
        Ok(())
    }

    impl Answers {
        fn new() -> Self {
            Self {
                openai: openai(),
                anthropic: anthropic(),
                gemini: gemini(),
                turn: Cell::default(),
            }
        }
    }

    fn openai() -> Format {
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
        let delta =
            r#"[{"index":0,"delta":{"content":" lorem"},"logprobs":null,"finish_reason":null}]"#;
        let finish = r#"[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]"#;
        let mut events = vec![chunk(delta, "null"); EVENTS - 3];
        events.push(chunk(finish, "null"));
        events.push(chunk("[]", USAGE));
        events.push(Bytes::from_static(b"data: [DONE]\n\n"));
        Format { whole: Bytes::from(chat), events }
    }

    fn anthropic() -> Format {
        const USAGE: &str = r#"{"input_tokens":200,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":98,"service_tier":"standard"}"#;
        const HEAD: &str = r#""id":"msg_0123456789","type":"message","role":"assistant","model":"claude-sonnet-4-6","stop_sequence":null"#;
        let whole = format!(
            r#"{{{HEAD},"content":[{{"type":"text","text":"{}"}}],"stop_reason":"end_turn","usage":{USAGE}}}"#,
            "lorem ipsum ".repeat(50)
        );
        let event = |name: &str, members: &str| {
            Bytes::from(format!("event: {name}\ndata: {{\"type\":\"{name}\"{members}}}\n\n"))
        };
        let start =
            format!(r#","message":{{{HEAD},"content":[],"stop_reason":null,"usage":{USAGE}}}"#);
        let mut events = vec![
            event("message_start", &start),
            event("content_block_start", r#","index":0,"content_block":{"type":"text","text":""}"#),
        ];
        let delta = r#","index":0,"delta":{"type":"text_delta","text":" lorem"}"#;
        events.resize(EVENTS - 3, event("content_block_delta", delta));
        events.push(event("content_block_stop", r#","index":0"#));
        let stop = r#","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":98}"#;
        events.push(event("message_delta", stop));
        events.push(event("message_stop", ""));
        Format { whole: Bytes::from(whole), events }
    }

    fn gemini() -> Format {
        const REST: &str = r#""usageMetadata":{"promptTokenCount":200,"candidatesTokenCount":98,"totalTokenCount":298,"promptTokensDetails":[{"modality":"TEXT","tokenCount":200}]},"modelVersion":"gemini-2.5-flash","responseId":"0123456789abcdef""#;
        let answer = |text: &str, finish: &str| {
            format!(
                r#"{{"candidates":[{{"content":{{"parts":[{{"text":"{text}"}}],"role":"model"}},{finish}"index":0}}],{REST}}}"#
            )
        };
        let finish = r#""finishReason":"STOP","#;
        let event = |finish| Bytes::from(format!("data: {}\n\n", answer(" lorem", finish)));
        let mut events = vec![event(""); EVENTS - 1];
        events.push(event(finish));
        Format { whole: Bytes::from(answer(&"lorem ipsum ".repeat(50), finish)), events }
    }
}
