//! A request's body that may not come in drops: who sends a byte a minute holds a place that others wait for.

use crate::limits;
use axum::BoxError;
use axum::body::{Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Fails once the body is later than [`limits::API_BODY_GRACE`] and [`limits::API_BODY_RATE`] allow.
pub(super) struct Paced<B> {
    body: Pin<Box<B>>,
    begun: Instant,
    grace: Duration,
    bytes: u64,
    late: Pin<Box<Sleep>>,
}

impl<B> Paced<B> {
    pub(super) fn new(body: B) -> Paced<B> {
        Paced::with_grace(body, limits::API_BODY_GRACE)
    }

    fn with_grace(body: B, grace: Duration) -> Paced<B> {
        let begun = Instant::now();
        Paced { body: Box::pin(body), begun, grace, bytes: 0, late: Box::pin(tokio::time::sleep_until(begun + grace)) }
    }
}

/// How much later than the grace so many bytes may be there.
fn earned(bytes: u64) -> Duration {
    Duration::from_secs(bytes / limits::API_BODY_RATE)
}

impl<B> HttpBody for Paced<B>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        match this.body.as_mut().poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.bytes = this.bytes.saturating_add(frame.data_ref().map_or(0, |data| data.len() as u64));
                this.late.as_mut().reset(this.begun + this.grace + earned(this.bytes));
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(end) => Poll::Ready(end.map(|frame| frame.map_err(Into::into))),
            Poll::Pending => this.late.as_mut().poll(cx).map(|()| Some(Err("it comes too slowly".into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::collections::VecDeque;

    /// What there is, and then it stands still.
    struct Stuck(VecDeque<Bytes>);

    impl HttpBody for Stuck {
        type Data = Bytes;
        type Error = std::convert::Infallible;
        fn poll_frame(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            self.0.pop_front().map_or(Poll::Pending, |data| Poll::Ready(Some(Ok(Frame::data(data)))))
        }
    }

    #[tokio::test]
    async fn who_sends_no_more_is_cut_off_and_hears_why() {
        let mut body =
            Paced::with_grace(Stuck(VecDeque::from([Bytes::from_static(b"abc"), Bytes::from_static(b"d")])), Duration::from_millis(1));
        for expected in ["abc", "d"] {
            assert_eq!(body.frame().await.expect("there").expect("good").into_data().expect("data"), expected);
        }
        assert_eq!(body.frame().await.expect("an error").expect_err("late").to_string(), "it comes too slowly");
    }

    #[test]
    fn what_has_come_earns_time() {
        let rate = limits::API_BODY_RATE;
        for (bytes, seconds) in [(0, 0), (rate - 1, 0), (rate, 1), (1 << 20, (1 << 20) / rate)] {
            assert_eq!(earned(bytes).as_secs(), seconds);
        }
    }
}
