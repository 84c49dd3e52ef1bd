import sys

from keras_audio_ssl.cli import main

sys.exit(main())
