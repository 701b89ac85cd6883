package main

// Keyset pages: a cursor says where the last page ended, so that the last page costs what the first does.

const (
	defaultLimit = 50
	maxLimit     = 200
)

// page is a part of a list on the wire. next_cursor is null on the last one.
type page[T any] struct {
	Items      []T     `json:"items"`
	NextCursor *string `json:"next_cursor"`
}

// newPage makes a page of rows that were read with a limit one higher than asked for; key gives the place a row has in the
// list's order.
func newPage[T any](rows []T, limit int, key func(T) string) page[T] {
	if len(rows) <= limit {
		return page[T]{Items: rows}
	}
	next := writeCursor(key(rows[limit-1]))
	return page[T]{rows[:limit], &next}
}

// pageLimit returns the rows a page may have; 0 means that none was asked for.
func pageLimit(asked int) (int, error) {
	switch {
	case asked == 0:
		return defaultLimit, nil
	case asked < 1 || asked > maxLimit:
		return 0, badRequest("limit", "invalid")
	}
	return asked, nil
}

// A cursor is opaque to clients; it holds nothing that the page did not show.

func writeCursor(key string) string { return b64([]byte(key)) }

func readCursor(cursor string) (string, error) {
	if len(cursor) > 512 {
		return "", badRequest("cursor", "invalid")
	}
	key, ok := unb64(cursor)
	if !ok {
		return "", badRequest("cursor", "invalid")
	}
	return string(key), nil
}

func readIDCursor(cursor string) (id, error) {
	key, err := readCursor(cursor)
	if err != nil {
		return id{}, err
	}
	u, err := parseID(key)
	if err != nil {
		return id{}, badRequest("cursor", "invalid")
	}
	return u, nil
}
