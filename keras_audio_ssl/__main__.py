from keras_audio_ssl.cli import start

start()
