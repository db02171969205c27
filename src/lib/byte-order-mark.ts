// The byte order mark that some programs write at the beginning of UTF-8.

/** A text without the byte order mark that it may begin with. A reader of JSON may ignore it (RFC 8259, 8.1). */
export const withoutMark = (text: string): string => (text.charCodeAt(0) === 0xfeff ? text.slice(1) : text)
