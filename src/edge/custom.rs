//! What a session of Pingora's *custom* kind has to have and none of ours uses.

/// Messages beside the body, which HTTP has not. To be used within an implementation of Pingora's `Session`.
macro_rules! no_messages {
    () => {
        fn take_custom_message_reader(
            &mut self,
        ) -> Option<
            Box<dyn futures_core::Stream<Item = pingora_core::Result<bytes::Bytes>> + Unpin + Send + Sync>,
        > {
            None
        }

        fn restore_custom_message_reader(
            &mut self,
            _reader: Box<
                dyn futures_core::Stream<Item = pingora_core::Result<bytes::Bytes>> + Unpin + Send + Sync,
            >,
        ) -> pingora_core::Result<()> {
            Ok(())
        }

        fn take_custom_message_writer(
            &mut self,
        ) -> Option<Box<dyn pingora_core::protocols::http::custom::CustomMessageWrite>> {
            None
        }

        fn restore_custom_message_writer(
            &mut self,
            _writer: Box<dyn pingora_core::protocols::http::custom::CustomMessageWrite>,
        ) -> pingora_core::Result<()> {
            Ok(())
        }
    };
}

pub(super) use no_messages;
