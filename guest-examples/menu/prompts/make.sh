#!/usr/bin/env bash
# Makes the prompts of the demo tenant: speech from flite, telephone band, 8 kHz mono 16 bit, silence trimmed, equally loud.
# The results are committed, so that building and running need neither flite nor sox. To change one: edit the text, run this, commit.
#   apt-get install -y flite sox
set -euo pipefail
cd "$(dirname "$0")"

# Active speech about -16 dBFS (RMS): as loud as a talker on the other side, with the peaks held below clipping.
TARGET_DB=-16

say() { # NAME TEXT
    local raw loud out="$1.wav"
    raw="$(mktemp --suffix=.wav)" loud="$(mktemp --suffix=.wav)"
    flite -voice slt -t "$2" -o "$raw"
    sox -D "$raw" "$loud" \
        remix - rate -v 8000 highpass 180 lowpass 3600 \
        silence 1 0.02 0.5% reverse silence 1 0.02 0.5% reverse \
        compand 0.005,0.12 -60,-60,-30,-17,-12,-9,0,-5 0 -20 0.005
    local rms
    rms="$(sox "$loud" -n stat 2>&1 | awk '/RMS.*amplitude/ { print 20 * log($3) / log(10) }')"
    # The pads keep the first and last sound from clicking. -R and -D: the same bytes each time.
    sox -R -D "$loud" -b 16 -c 1 -r 8000 "$out" \
        gain -l "$(awk -v t=$TARGET_DB -v r="$rms" 'BEGIN { print t - r }')" fade 0.005 0 0.02 pad 0.05 0.10
    rm -f "$raw" "$loud"
    soxi -D "$out" | xargs printf '%-18s %5.2f s\n' "$out"
}

say greeting      "Hello. This call was answered by your own program. Goodbye."
say welcome-menu  "Welcome to Hookswitch. To leave a message, press 1. To hear an echo, press 2. To be connected, press 3. To hear this again, press 0."
say leave-message "Leave a message after the tone. Press the hash key when you are done."
say thanks        "Thank you. Your message was recorded."
say echo          "You now hear yourself. Press the hash key to stop."
say invalid       "Sorry, that is not one of the choices."
say error         "Sorry, something went wrong. Please call again later."
say goodbye       "Goodbye."
say no-destination "There is nobody to connect you to. Your phone must name somebody in the header X Dest."
